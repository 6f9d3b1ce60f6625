"""OpenAI's Responses API, for text only.

https://platform.openai.com/docs/api-reference/responses
"""
