"""Client JSON of chat completions: checked, reduced to known fields, rewritten.

Fields declared in `Forwarded` are passed on; unknown ones are dropped and named in
`x-promptly-ignored`; those that would change the answer if dropped are refused.
The declared types are the rules: msgspec checks them and names the field that breaks one.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from promptly.errors import InvalidRequest, UnsupportedParameter
from promptly.gateway import json_body
from promptly.gateway.chat_request import (
    MAX_IGNORED,
    ChatRequest,
    ignored_fields,
    make_chat_request,
)
from promptly.gateway.dialects.chat.conversation import Message, normalize
from promptly.gateway.dialects.fields import Count, Name, SessionName, StreamOptions
from promptly.gateway.dialects.sampling import Sampling
from promptly.gateway.dialects.schema_weight import MAX_TOOLS, check_schemas
from promptly.gateway.dialects.unsupported_parts import replace_in_tool_messages
from promptly.gateway.json_bounds import Body


class FunctionDefinition(Struct, omit_defaults=True):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct):
    function: FunctionDefinition
    type: Literal["function"]


class NamedFunction(Struct):
    name: Name


class ToolChoice(Struct):
    function: NamedFunction
    type: Literal["function"]


class JsonSchema(Struct, omit_defaults=True):
    schema: dict[str, Any]
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, omit_defaults=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema: dict[str, Any] | None = None


class Forwarded(Sampling, omit_defaults=True, kw_only=True):
    """Fields that are passed to upstream unchanged, once checked."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=100_000)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Annotated[str, Meta(max_length=32)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class ChatBody(Forwarded, kw_only=True):
    """The known fields of a chat completion's body."""

    model: Annotated[str, Meta(max_length=256)] | None = None
    prompt_cache_key: SessionName | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # More than 1 is refused below; the contract lists only what is accepted.
    n: Annotated[int, Meta(ge=1, le=128, extra_json_schema={"const": 1})] | None = None


# Ignoring these would change the answer.
REFUSED = {
    "functions": "use 'tools'",
    "function_call": "use 'tool_choice'",
    "audio": "the model answers in text",
    "grammar": "use 'response_format'",
}

_KNOWN = frozenset(ChatBody.__struct_fields__)
_FORWARDED = tuple(field for field in Forwarded.__struct_fields__ if field != "messages")


def parse_chat(body: Body) -> ChatRequest:
    """Check the body of a chat completion; raises InvalidRequest naming the field."""
    value = json_body.decode_object(body)
    for name, advice in REFUSED.items():
        if value.get(name) is not None:
            raise UnsupportedParameter(name, advice)
    replaced = replace_in_tool_messages(value.get("messages"))
    chat = json_body.check(value, ChatBody)
    if chat.n is not None and chat.n > 1:
        raise UnsupportedParameter("n", "only one answer per request, n = 1")
    _check_content(chat)
    normalize(chat.messages)

    fields: dict[str, Any] = {"messages": chat.messages}
    for name in _FORWARDED:
        item = getattr(chat, name)
        if item is not None:
            fields[name] = item
    if isinstance(chat.tool_choice, ToolChoice):
        # llama-server treats a named function as "auto": offer only this one, and require a call.
        fields["tools"] = _named(chat.tools or [], chat.tool_choice.function.name)
        fields["tool_choice"] = "required"
    if chat.logprobs:
        # With 0 upstream omits even the chosen token's logprob; without a number it sends 20.
        fields["top_logprobs"] = max(chat.top_logprobs or 0, 1)
    else:
        fields.pop("top_logprobs", None)
    request = make_chat_request(
        fields,
        model=chat.model,
        stream=bool(chat.stream),
        include_usage=bool(chat.stream_options and chat.stream_options.include_usage),
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        ignored=(*ignored_fields(value, _KNOWN), *replaced)[:MAX_IGNORED],
        session=chat.prompt_cache_key,
    )
    request.without_alternatives = bool(chat.logprobs) and not chat.top_logprobs
    return request


def _named(tools: list[Tool], name: str) -> list[Tool]:
    found = [tool for tool in tools if tool.function.name == name]
    if not found:
        raise InvalidRequest(
            "'tool_choice' names a function that is not in 'tools'.", param="tool_choice"
        )
    return found


def _check_content(chat: ChatBody) -> None:
    """Check what the types cannot express, such as rules that concern two fields at once."""
    if chat.top_logprobs and not chat.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
    if chat.logprobs and chat.tools:
        raise UnsupportedParameter("logprobs", "the model server has no logprobs beside tools")
    if chat.stream_options is not None and not chat.stream:
        raise InvalidRequest("'stream_options' needs 'stream': true.", param="stream_options")
    form = chat.response_format
    if form is not None and form.type == "json_schema" and form.json_schema is None:
        raise InvalidRequest(
            "Missing required parameter: 'response_format.json_schema'.",
            param="response_format.json_schema",
        )
    check_schemas([tool.function.parameters or {} for tool in chat.tools or ()], "tools")
    if form is not None:
        schemas = [form.schema or {}, form.json_schema.schema if form.json_schema else {}]
        check_schemas(schemas, "response_format")
    must_call = isinstance(chat.tool_choice, ToolChoice) or chat.tool_choice == "required"
    if must_call and not chat.tools:
        raise InvalidRequest("'tool_choice' needs 'tools'.", param="tool_choice")
