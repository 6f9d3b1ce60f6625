"""OpenAI's Responses, as far as text goes.

https://platform.openai.com/docs/api-reference/responses
"""
