"""Client JSON of Messages: checked, reduced to known fields, rewritten as a chat request.

Declared fields have an effect; unknown ones are dropped and named in `x-promptly-ignored`; those
that would change the answer if dropped are refused.
"""

import re
from typing import Any, TypeVar

from promptly.errors import InvalidRequest, UnsupportedParameter
from promptly.gateway import json_body
from promptly.gateway.chat_request import (
    MAX_IGNORED,
    ChatRequest,
    ignored_fields,
    make_chat_request,
)
from promptly.gateway.dialects.messages.body import (
    EMPTY,
    REFUSED,
    AdaptiveThinking,
    AnyChoice,
    AutoChoice,
    CountBody,
    EnabledThinking,
    MessagesBody,
    NamedChoice,
    NoChoice,
    OutputConfig,
    Tool,
)
from promptly.gateway.dialects.messages.conversation import BILLING_LINE, chat_messages
from promptly.gateway.dialects.schema_weight import check_schemas
from promptly.gateway.dialects.unsupported_parts import replace_in_tool_results
from promptly.gateway.json_bounds import Body

T = TypeVar("T")

# Chat templates know three levels.
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}

_KNOWN = frozenset(MessagesBody.__struct_fields__) - {"context_management"}

# Nested names without an effect, and the bytes that reveal them: within a string the quotes would
# be escaped.
_DEEPER = {
    "cache_control": b'"cache_control"',
    "x-anthropic-billing-header": b'"%b' % BILLING_LINE.encode(),
}


def parse_messages(body: Body) -> tuple[ChatRequest, str]:
    """Check the body of a message; raises InvalidRequest naming the field.

    Returns the request, and the start of the answer if the client gives one (else "").
    """
    value = _decode(body)
    replaced = replace_in_tool_results(value.get("messages"))
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
    if message.stop_sequences:
        # The last chunk then names the one that ended the answer.
        fields |= {"verbose": True, "response_fields": ["stop_type", "stopping_word"]}
    deeper = tuple(name for name, mark in _DEEPER.items() if mark in body)
    if message.thinking is not None and message.thinking.display is not None:
        deeper = ("thinking.display", *deeper)
    chat = make_chat_request(
        fields,
        model=message.model,
        stream=bool(message.stream),
        include_usage=True,
        max_tokens=message.max_tokens,
        ignored=(ignored_fields(value, _KNOWN) + deeper + replaced)[:MAX_IGNORED],
    )
    chat.stop_sequences = tuple(message.stop_sequences or ())
    last = fields["messages"][-1]
    return chat, last["content"] if last["role"] == "assistant" else ""


def parse_count(body: Body) -> ChatRequest:
    """Check the body of a `count_tokens` request; raises InvalidRequest naming the field."""
    value = _decode(body)
    replace_in_tool_results(value.get("messages"))
    message = _check(value, CountBody)
    return make_chat_request(
        _prompt_fields(message),
        model=message.model,
        stream=False,
        include_usage=False,
        max_tokens=None,
        ignored=(),
    )


def _decode(body: Body) -> dict[str, Any]:
    value = json_body.decode_object(body)
    for name, advice in REFUSED.items():
        if value.get(name) not in EMPTY:
            raise UnsupportedParameter(name, advice)
    if value.get("thread") not in EMPTY:
        # On this code, Anthropic's SDKs continue by sending the whole conversation.
        raise InvalidRequest(
            "Unsupported parameter: 'thread': conversations are not stored here.",
            param="thread",
            code="thread_unsupported_request",
        )
    return value


_ITEM_TYPE = re.compile(r"(.*\])\.type")
_NAMED_VALUE = re.compile(r"[Ii]nvalid (?:enum )?value '([^']*)'\.?$")


def _check(value: dict[str, Any], kind: type[T]) -> T:
    """Check like `json_body.check`, but name a block or tool of an unsupported kind as a whole."""
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
    """Return the upstream fields that make up the prompt."""
    fields: dict[str, Any] = {"messages": chat_messages(body.system, body.messages)}
    if body.tools:
        check_schemas([tool.input_schema for tool in body.tools], "tools")
        fields["tools"] = [_function(tool) for tool in body.tools]
    if body.tool_choice is not None:
        fields |= _tool_choice(body.tool_choice, body.tools or [])
    fields |= _thinking(body, is_prefilled=fields["messages"][-1]["role"] == "assistant")
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
                    "'tool_choice.name' names a tool that is not in 'tools'.",
                    param="tool_choice.name",
                )
            # Upstream cannot choose by name: offer only this tool, and require a call.
            fields["tool_choice"] = "required"
            fields["tools"] = [_function(tool) for tool in named]
    if choice.disable_parallel_tool_use:
        fields["parallel_tool_calls"] = False
    return fields


def _thinking(body: CountBody, *, is_prefilled: bool) -> dict[str, Any]:
    match body.thinking:
        case None if is_prefilled:
            # Upstream refuses to think when it continues an answer that the client has started.
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
