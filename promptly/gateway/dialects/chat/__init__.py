"""OpenAI's chat completions, with llama.cpp's own fields.

https://platform.openai.com/docs/api-reference/chat
"""
