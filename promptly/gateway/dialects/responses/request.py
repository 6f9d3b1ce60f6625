"""Client JSON of Responses: checked, and turned into a chat request.

Fields without an effect are named in `x-promptly-ignored`. Those that would change the answer if
dropped are refused, and so are all unknown ones. `null` means absent everywhere.
"""

from typing import Any

import orjson

from promptly.errors import InvalidRequest, UnsupportedParameter
from promptly.gateway import json_body
from promptly.gateway.chat_request import ChatRequest, ignored_fields, make_chat_request
from promptly.gateway.dialects.chat import request as chat
from promptly.gateway.dialects.responses.body import (
    ENCRYPTED_THOUGHTS,
    NO_TOOLS,
    REFUSED,
    WITHOUT_EFFECT,
    WITHOUT_EFFECT_PREFIX,
    InputMessage,
    JsonObject,
    JsonSchema,
    Part,
    PlainText,
    Reasoning,
    Refusal,
    ResponsesBody,
    TextOptions,
)
from promptly.gateway.dialects.responses.echo import Echo
from promptly.gateway.dialects.schema_weight import check_schemas
from promptly.gateway.json_bounds import Body

Json = dict[str, Any]

_KNOWN = frozenset(ResponsesBody.__struct_fields__)
_ITEMS = ("message", "reasoning")
_PARTS = ("input_text", "output_text", "refusal")
_NESTED = {
    "text": frozenset(TextOptions.__struct_fields__),
    "text.format": frozenset({*JsonSchema.__struct_fields__, "type"}),
    "reasoning": frozenset(Reasoning.__struct_fields__),
}
_NESTED_WITHOUT_EFFECT = (
    ("text", "verbosity"),
    ("reasoning", "summary"),
    ("reasoning", "generate_summary"),
)


def parse_responses(body: Body) -> tuple[ChatRequest, Echo]:
    """Check the body of a Responses request; raises InvalidRequest naming the field."""
    decoded = json_body.decode_object(body)
    value = {name: item for name, item in decoded.items() if item is not None}
    _refuse_fields(value)
    _refuse_items(value.get("input"))
    asked = json_body.check(value, ResponsesBody)
    _refuse_choices(asked)
    # Before the chat request, so that encoding errors name the client's own path.
    echo = _echo(asked)
    request = make_chat_request(
        _chat_fields(asked),
        stream=bool(asked.stream),
        include_usage=True,
        max_tokens=asked.max_output_tokens,
        ignored=_ignored(value),
    )
    return request, echo


def _refuse_fields(value: Json) -> None:
    for name, advice in REFUSED.items():
        if name in value:
            raise UnsupportedParameter(name, advice)
    for name in value:
        if name not in _KNOWN and not _has_no_effect(name):
            raise _unknown(name)
    for path, known in _NESTED.items():
        part: Any = value
        for name in path.split("."):
            part = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, dict):
            for name, item in part.items():
                if name not in known and item is not None:
                    raise _unknown(f"{path}.{name}")


def _has_no_effect(name: str) -> bool:
    return name in WITHOUT_EFFECT or name.startswith(WITHOUT_EFFECT_PREFIX)


def _unknown(path: str) -> InvalidRequest:
    path = path[:100]
    return InvalidRequest(f"Unknown parameter: '{path}'.", param=path, code="unknown_parameter")


def _refuse_items(items: Any) -> None:
    """Refuse input other than text; items without a type are messages, and get that type here."""
    if not isinstance(items, list):
        return
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        if item.get("type") is None:
            item["type"] = "message"
        _refuse_type(item["type"], _ITEMS, f"input[{index}]")
        content = item.get("content")
        if item["type"] != "message" or not isinstance(content, list):
            continue
        for number, part in enumerate(content):
            if isinstance(part, dict):
                _refuse_type(part.get("type"), _PARTS, f"input[{index}].content[{number}]")


def _refuse_type(kind: Any, supported: tuple[str, ...], path: str) -> None:
    if isinstance(kind, str) and kind not in supported:
        raise UnsupportedParameter(
            path, f"type '{kind[:100]}' is not supported, only {', '.join(supported)}"
        )


def _refuse_choices(asked: ResponsesBody) -> None:
    """Refuse values of known fields that would change the meaning of the answer."""
    if asked.tools:
        raise UnsupportedParameter("tools", NO_TOOLS)
    if asked.background:
        raise UnsupportedParameter("background", "responses are not run in the background")
    if asked.truncation == "auto":
        raise UnsupportedParameter("truncation", "prompts that are too long are refused, not cut")
    for index, name in enumerate(asked.include or ()):
        if name != ENCRYPTED_THOUGHTS:
            raise UnsupportedParameter(f"include[{index}]", "there is nothing to include")


def _chat_fields(asked: ResponsesBody) -> Json:
    """Return the upstream fields, under their names in chat completions."""
    form = asked.text.format if asked.text else None
    effort = asked.reasoning.effort if asked.reasoning else None
    fields = {
        "messages": _messages(asked),
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "stop": asked.stop,
        "seed": asked.seed,
        "response_format": _response_format(form),
        "reasoning_effort": effort,
        # OpenAI treats an absent value as 0.
        "logprobs": True if asked.top_logprobs else None,
        "top_logprobs": asked.top_logprobs or None,
    }
    return {name: item for name, item in fields.items() if item is not None}


def _messages(asked: ResponsesBody) -> list[Json]:
    if isinstance(asked.input, str):
        messages = [{"role": "user", "content": asked.input}]
    else:
        messages = [
            {"role": item.role, "content": _text(item.content)}
            for item in asked.input
            if isinstance(item, InputMessage)
        ]
    if not messages:
        raise InvalidRequest("'input' contains no message.", param="input")
    if asked.instructions is not None:
        messages.insert(0, {"role": "system", "content": asked.instructions})
    return messages


def _text(content: str | list[Part]) -> Any:
    """Return the content as chat completions accept it; a single part becomes its text."""
    if isinstance(content, str):
        return content
    texts = [part.refusal if isinstance(part, Refusal) else part.text for part in content]
    if len(texts) > 1:
        return [chat.TextPart(text) for text in texts]
    return texts[0] if texts else ""


def _response_format(
    form: PlainText | JsonObject | JsonSchema | None,
) -> chat.ResponseFormat | None:
    if isinstance(form, JsonSchema):
        check_schemas(form.schema, "text.format")
        schema = chat.JsonSchema(form.schema, form.name, form.description, form.strict)
        return chat.ResponseFormat("json_schema", schema)
    return chat.ResponseFormat("json_object") if isinstance(form, JsonObject) else None


def _echo(asked: ResponsesBody) -> Echo:
    form = asked.text.format if asked.text else None
    effort = asked.reasoning.effort if asked.reasoning else None
    repeated: Json = {
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": False,
        "reasoning": {"effort": effort, "summary": None},
        "temperature": asked.temperature,
        "text": {"format": form or PlainText()},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": asked.top_p,
    }
    return Echo({name: _encoded(name, item) for name, item in repeated.items()})


def _encoded(name: str, item: Any) -> orjson.Fragment:
    # Encode with the name, so that an error names the whole path.
    return orjson.Fragment(json_body.encode({name: item})[len(name) + 4 : -1])


def _ignored(value: Json) -> tuple[str, ...]:
    nested = tuple(
        f"{outer}.{name}"
        for outer, name in _NESTED_WITHOUT_EFFECT
        if value.get(outer, {}).get(name) is not None
    )
    include = ("include",) if value.get("include") else ()
    return ignored_fields(value, _KNOWN) + nested + include
