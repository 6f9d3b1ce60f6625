"""OpenAI's older completions of plain text, one prompt or several, with llama.cpp's own fields.

https://platform.openai.com/docs/api-reference/completions
"""
