"""Parts of a tool's result that the model cannot read: images, documents and the like."""

import re
from typing import Any

_HEADER_SAFE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def replace(parts: Any, place: str, texts: tuple[str | None, ...]) -> tuple[str, ...]:
    """Replace, in place, all parts of a tool's result whose type is not one of `texts`.

    The first of `texts` is the type of the parts that take their place. Returns the kinds of what
    was replaced, such as `tool.image_url`, as far as a header can carry them.
    """
    found: dict[str, None] = {}
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in texts and isinstance(kind, str):
            is_safe = _HEADER_SAFE.fullmatch(kind) is not None
            found[f"{place}.{kind if is_safe else 'part'}"] = None
            parts[index] = {"type": texts[0], "text": _placeholder(kind if is_safe else "content")}
    return tuple(found)


def _placeholder(kind: str) -> str:
    name = kind.removeprefix("input_").removesuffix("_url").replace("_", " ")
    return f"[{name} not supported by this model]"
