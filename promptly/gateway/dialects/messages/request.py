"""Client JSON of Messages: checked, reduced to known fields, written as a chat completion's.

What is declared here has an effect; what is unknown is left out and named in `x-promptly-ignored`;
what would change the meaning if it were left out is refused.
"""

import re
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct

from promptly.errors import InvalidRequest, UnsupportedParameter
from promptly.gateway import json_body
from promptly.gateway.chat_request import (
    MAX_IGNORED,
    ChatRequest,
    ignored_fields,
    make_chat_request,
)
from promptly.gateway.dialects.fields import Count, Integer, Name, Share, StopWord, Temperature
from promptly.gateway.dialects.messages.conversation import (
    BILLING_LINE,
    AssistantMessage,
    SystemMessage,
    Text,
    UserMessage,
    chat_messages,
)
from promptly.gateway.dialects.schema_weight import MAX_TOOLS, check_schemas

T = TypeVar("T")


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

# A model's templates know three.
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}

_KNOWN = frozenset(MessagesBody.__struct_fields__) - {"context_management"}

# Names of what stands deeper in the body and has no effect, and the bytes that betray it: within
# a string the quotes would be escaped.
_DEEPER = {
    "cache_control": b'"cache_control"',
    "x-anthropic-billing-header": b'"%b' % BILLING_LINE.encode(),
}


def parse_messages(body: bytes) -> tuple[ChatRequest, str]:
    """Check the body of a message; raises InvalidRequest naming the field.

    Returns the request, and the beginning of the answer if the client gives one.
    """
    value = _decode(body)
    message = _check(value, MessagesBody)
    fields = _prompt_fields(message)
    for name, item in (
        ("stop", message.stop_sequences),
        ("temperature", message.temperature),
        ("top_p", message.top_p),
        ("top_k", message.top_k),
    ):
        if item is not None:
            fields[name] = item
    deeper = tuple(name for name, mark in _DEEPER.items() if mark in body)
    if message.thinking is not None and message.thinking.display is not None:
        deeper = ("thinking.display", *deeper)
    chat = make_chat_request(
        fields,
        stream=bool(message.stream),
        include_usage=True,
        max_tokens=message.max_tokens,
        ignored=(ignored_fields(value, _KNOWN) + deeper)[:MAX_IGNORED],
    )
    last = fields["messages"][-1]
    return chat, last["content"] if last["role"] == "assistant" else ""


def parse_count(body: bytes) -> ChatRequest:
    """Check the body of a request for the size of its prompt; raises InvalidRequest."""
    return make_chat_request(
        _prompt_fields(_check(_decode(body), CountBody)),
        stream=False,
        include_usage=False,
        max_tokens=None,
        ignored=(),
    )


def _decode(body: bytes) -> dict[str, Any]:
    value = json_body.decode_object(body)
    for name, advice in REFUSED.items():
        if value.get(name) not in EMPTY:
            raise UnsupportedParameter(name, advice)
    if value.get("thread") not in EMPTY:
        # At this code Anthropic's SDKs go on by sending the whole conversation.
        raise InvalidRequest(
            "Unsupported parameter: 'thread': no conversation is kept here.",
            param="thread",
            code="thread_unsupported_request",
        )
    return value


_ITEM_TYPE = re.compile(r"(.*\])\.type")
_NAMED_VALUE = re.compile(r"[Ii]nvalid (?:enum )?value '([^']*)'\.?$")


def _check(value: dict[str, Any], kind: type[T]) -> T:
    """As `json_body.check`; a block or a tool of a kind that has no place here is refused whole."""
    try:
        return json_body.check(value, kind)
    except InvalidRequest as problem:
        where = _ITEM_TYPE.fullmatch(problem.param or "")
        found = _NAMED_VALUE.search(problem.message)
        if where and found:
            reason = f"'{found[1][:100]}' is not supported here"
            raise UnsupportedParameter(where[1], reason) from None
        raise


def _prompt_fields(body: CountBody) -> dict[str, Any]:
    """What upstream gets of the fields that decide about the prompt."""
    fields: dict[str, Any] = {"messages": chat_messages(body.system, body.messages)}
    if body.tools:
        check_schemas([tool.input_schema for tool in body.tools], "tools")
        fields["tools"] = [_function(tool) for tool in body.tools]
    if body.tool_choice is not None:
        fields |= _tool_choice(body.tool_choice, body.tools or [])
    fields |= _thinking(body, is_begun=fields["messages"][-1]["role"] == "assistant")
    config = body.output_config or OutputConfig()
    if config.effort is not None:
        fields["reasoning_effort"] = _EFFORTS[config.effort]
    form = config.format or body.output_format
    if form is not None:
        where = "output_format" if config.format is None else "output_config.format"
        check_schemas(form.schema, where)
        fields["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": form.schema, "strict": True},
        }
    return fields


def _function(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(
    choice: AutoChoice | AnyChoice | NamedChoice | NoChoice, tools: list[Tool]
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    match choice:
        case AutoChoice():
            fields["tool_choice"] = "auto"
        case NoChoice():
            fields["tool_choice"] = "none"
        case _ if not tools:
            raise InvalidRequest("'tool_choice' needs 'tools'.", param="tool_choice")
        case AnyChoice():
            fields["tool_choice"] = "required"
        case NamedChoice():
            named = [tool for tool in tools if tool.name == choice.name]
            if not named:
                raise InvalidRequest(
                    "'tool_choice.name' names none of 'tools'.", param="tool_choice.name"
                )
            # Upstream knows no choice by name: it has to call one, and is given this one alone.
            fields["tool_choice"] = "required"
            fields["tools"] = [_function(tool) for tool in named]
    if choice.disable_parallel_tool_use:
        fields["parallel_tool_calls"] = False
    return fields


def _thinking(body: CountBody, *, is_begun: bool) -> dict[str, Any]:
    match body.thinking:
        case None if is_begun:
            # An answer that the client has begun is gone on with; upstream refuses to think then.
            return {"chat_template_kwargs": {"enable_thinking": False}}
        case None:
            return {}
        case EnabledThinking(budget_tokens):
            return {
                "chat_template_kwargs": {"enable_thinking": True},
                "thinking_budget_tokens": budget_tokens,
            }
        case thinking:
            enabled = isinstance(thinking, AdaptiveThinking)
            return {"chat_template_kwargs": {"enable_thinking": enabled}}
