"""Request fields that a response repeats."""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Echo:
    """`fields` are already encoded as JSON; with `first_call_only` further tool calls are dropped.

    The fields include `tools`, `tool_choice` and `parallel_tool_calls`.
    """

    fields: dict[str, orjson.Fragment]
    first_call_only: bool = False
