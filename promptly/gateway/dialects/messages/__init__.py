"""Anthropic's Messages, as its SDKs and the agents built on them speak it.

https://docs.anthropic.com/en/api/messages
"""
