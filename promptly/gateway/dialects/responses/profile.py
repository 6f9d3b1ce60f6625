"""The two profiles: an installation accepts text alone, or function tools as well."""

from collections.abc import Mapping
from dataclasses import dataclass

from promptly.gateway.dialects.responses.body import (
    JsonSchema,
    Reasoning,
    ResponsesBody,
    TextOptions,
    ToolsBody,
    ToolsReasoning,
)
from promptly.gateway.dialects.responses.items import HOSTED_TYPES, OUTPUT_TYPES

NOTHING_STORED = "nothing is stored here; send the whole conversation as 'input'"
NO_TOOLS = (
    "use /v1/chat/completions for tools; whoever runs this gateway can allow them here with "
    "RESPONSES_PROFILE=tools"
)
NO_REFERENCE = (
    "nothing is stored here; send the item itself. SDKs do with store: false among their options"
)
_STORED = dict.fromkeys(("previous_response_id", "conversation", "prompt"), NOTHING_STORED)
_WITHOUT_EFFECT = frozenset(
    {"store", "user", "service_tier", "safety_identifier", "stream_options"}
)
WITHOUT_EFFECT_PREFIX = "prompt_cache_"

_NESTED = {
    "text": frozenset(TextOptions.__struct_fields__),
    "text.format": frozenset({*JsonSchema.__struct_fields__, "type"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`body` is the type of the request; `refused` are OpenAI's other fields, with advice.

    `without_effect` are accepted fields that are not in `body`; `item_types` is the list of input
    items, and `nested` the names known within some fields.
    """

    body: type[ResponsesBody] | type[ToolsBody]
    refused: Mapping[str, str]
    without_effect: frozenset[str]
    item_types: tuple[str, ...]
    nested: Mapping[str, frozenset[str]]

    def has_no_effect(self, name: str) -> bool:
        """Whether a field is accepted, and only named in `x-promptly-ignored`."""
        return name in self.without_effect or name.startswith(WITHOUT_EFFECT_PREFIX)


TEXT = Profile(
    body=ResponsesBody,
    refused=_STORED
    | dict.fromkeys(("tool_choice", "parallel_tool_calls", "max_tool_calls"), NO_TOOLS),
    without_effect=_WITHOUT_EFFECT,
    item_types=("message", "reasoning"),
    nested=_NESTED | {"reasoning": frozenset(Reasoning.__struct_fields__)},
)
TOOLS = Profile(
    body=ToolsBody,
    refused=_STORED,
    # OpenAI counts only calls of its own tools towards `max_tool_calls`.
    without_effect=_WITHOUT_EFFECT | {"client_metadata", "max_tool_calls"},
    item_types=(
        "message",
        "reasoning",
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        *OUTPUT_TYPES,
        *HOSTED_TYPES,
    ),
    nested=_NESTED | {"reasoning": frozenset(ToolsReasoning.__struct_fields__)},
)
PROFILES = {"text": TEXT, "tools": TOOLS}
