"""Reads the messages of a checked chat, which are dicts or msgspec's structs."""

from collections.abc import Iterator
from typing import Any


def role_of(message: Any) -> str:
    """Return the role; that of a struct is its type."""
    role: str = message["role"] if isinstance(message, dict) else message.__struct_config__.tag
    return role


def content_texts(message: Any) -> list[str]:
    """Return the texts of the content: one for a string, one for each part."""
    content = _field(message, "content")
    if isinstance(content, str):
        return [content]
    return [_field(part, "text") for part in content or ()]


def call_texts(message: Any) -> Iterator[str]:
    """Yield the name and the arguments of each call that the message makes."""
    for call in _field(message, "tool_calls") or ():
        function = _field(call, "function")
        yield _field(function, "name")
        yield _field(function, "arguments")


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)
