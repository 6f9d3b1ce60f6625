"""The body of Messages, as types, and which of Anthropic's fields are refused."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from promptly.gateway.dialects.fields import Count, Integer, Name, Share, StopWord, Temperature
from promptly.gateway.dialects.messages.conversation import (
    AssistantMessage,
    SystemMessage,
    Text,
    UserMessage,
)
from promptly.gateway.dialects.schema_weight import MAX_TOOLS


class Tool(Struct, kw_only=True):
    # First, so that a tool of another kind is refused for that and not for what it lacks.
    type: Literal["custom"] | None = None
    name: Name
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class AutoChoice(Struct, tag_field="type", tag="auto"):
    disable_parallel_tool_use: bool | None = None


class AnyChoice(Struct, tag_field="type", tag="any"):
    disable_parallel_tool_use: bool | None = None


class NamedChoice(Struct, tag_field="type", tag="tool"):
    name: Name
    disable_parallel_tool_use: bool | None = None


class NoChoice(Struct, tag_field="type", tag="none"):
    disable_parallel_tool_use: None = None


class EnabledThinking(Struct, tag_field="type", tag="enabled"):
    budget_tokens: Count
    display: Any = None


class AdaptiveThinking(Struct, tag_field="type", tag="adaptive"):
    display: Any = None


class DisabledThinking(Struct, tag_field="type", tag="disabled"):
    display: None = None


class JsonFormat(Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class ContextEdit(Struct):
    # Thoughts of earlier turns are the chat template's to keep or drop; nothing else is cut here.
    type: Annotated[str, Meta(pattern="^clear_thinking_")]


class ContextManagement(Struct):
    edits: list[ContextEdit] | None = None


class CountBody(Struct, kw_only=True):
    """What decides about the prompt: the body of `count_tokens`, and a part of a message's."""

    messages: Annotated[
        list[UserMessage | AssistantMessage | SystemMessage], Meta(min_length=1, max_length=100_000)
    ]
    model: Annotated[str, Meta(max_length=256)] | None = None
    system: str | list[Text] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedChoice | NoChoice | None = None
    thinking: EnabledThinking | AdaptiveThinking | DisabledThinking | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None
    context_management: ContextManagement | None = None


class MessagesBody(CountBody, kw_only=True):
    """The whole body of a message, as far as it is known."""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: Annotated[list[StopWord], Meta(max_length=64)] | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Integer | None = None


# Left out, these would change what the client gets back.
REFUSED = {
    "billing_policy": "the account of the key is charged",
    "compaction": "nothing is summarized here",
    "container": "nothing is executed here",
    "mcp_servers": "no servers are called from here; give their tools in 'tools'",
}
# What they may be all the same: clients write an empty list for none.
EMPTY: tuple[Any, ...] = (None, [], {})
