"""Types of the Messages body, and which of Anthropic's fields are refused."""

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
    # First, so that a tool of another kind is refused for its type, not for missing fields.
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
    # The chat template keeps or drops the thinking of earlier turns; nothing else is cut here.
    type: Annotated[str, Meta(pattern="^clear_thinking_")]


class ContextManagement(Struct):
    edits: list[ContextEdit] | None = None


class CountBody(Struct, kw_only=True):
    """Fields that make up the prompt: the body of `count_tokens`, and part of a message's."""

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
    """The known fields of a message's body."""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: Annotated[list[StopWord], Meta(max_length=64)] | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Integer | None = None


# Ignoring these would change the answer.
REFUSED = {
    "billing_policy": "the account that owns the key is charged",
    "compaction": "conversations are not summarized here",
    "container": "code is not executed here",
    "mcp_servers": "MCP servers are not called from here; give their tools in 'tools'",
}
# Values that are accepted all the same: some clients send an empty list for none.
EMPTY: tuple[Any, ...] = (None, [], {})
