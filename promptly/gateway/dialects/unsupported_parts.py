"""Parts of a tool's result that the model cannot read: images, documents and the like.

A tool's result stays in the conversation, and its tool may well return a screenshot. So that the
conversation can go on, a short text takes the place of such a part, and `x-promptly-ignored` names
its kind. In a user's message, where people expect an answer about it, it is refused.
"""

from typing import Any

from promptly.gateway.chat_request import HEADER_SAFE

# Parts without a type, and those that are no objects, are left for the check of types to refuse.
_TEXT = ("text", None)


def replace_in_tool_messages(messages: Any) -> tuple[str, ...]:
    """Replace parts in the tool messages of a chat, in place; return their kinds."""
    found: dict[str, None] = {}
    for message in _objects(messages):
        if message.get("role") == "tool":
            found |= dict.fromkeys(replace(message.get("content"), "tool"))
    return tuple(found)


def replace_in_tool_results(messages: Any) -> tuple[str, ...]:
    """Replace parts in the tool results of an Anthropic conversation; return their kinds."""
    found: dict[str, None] = {}
    for message in _objects(messages):
        for block in _objects(message.get("content")):
            if block.get("type") == "tool_result":
                found |= dict.fromkeys(replace(block.get("content"), "tool_result"))
    return tuple(found)


def replace(parts: Any, place: str, texts: tuple[str | None, ...] = _TEXT) -> tuple[str, ...]:
    """Replace, in place, all parts of a tool's result whose type is not one of `texts`.

    The first of `texts` is the type of the parts that take their place. Returns the kinds of what
    was replaced, such as `tool.image_url`, as far as a header can carry them.
    """
    found: dict[str, None] = {}
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in texts and isinstance(kind, str):
            is_safe = HEADER_SAFE.fullmatch(kind) is not None
            found[f"{place}.{kind if is_safe else 'part'}"] = None
            parts[index] = {"type": texts[0], "text": _placeholder(kind if is_safe else "content")}
    return tuple(found)


def _placeholder(kind: str) -> str:
    """Return the text for parts of a kind: `input_image` and `image_url` are both an image."""
    name = kind.removeprefix("input_").removesuffix("_url").replace("_", " ")
    return f"[{name} not supported by this model]"


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
