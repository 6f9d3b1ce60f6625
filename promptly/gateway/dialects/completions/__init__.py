"""OpenAI's legacy text completions, for one or more prompts, with llama.cpp's own fields.

https://platform.openai.com/docs/api-reference/completions
"""
