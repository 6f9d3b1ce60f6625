"""Anthropic's Messages API, as its SDKs and the agents built on them use it.

https://docs.anthropic.com/en/api/messages
"""
