"""Malformed chat completion bodies, and the field that each error must name."""

import json
import typing
from typing import Any

import msgspec

from promptly.gateway.dialects.chat.request import ChatBody

Json = dict[str, Any]

HELLO = [{"role": "user", "content": "hello"}]


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": HELLO, **fields}).encode()


def message(**fields: Any) -> bytes:
    return json.dumps({"messages": [fields]}).encode()


def _wrong(kind: Any) -> Any:
    """Return a value that no branch of a declared type accepts."""
    text = str(kind)
    return 5 if "int" not in text and "float" not in text else {"not": "a number"}


# Every known field with a value of a wrong type.
WRONG_TYPES = {
    name: body(**{name: _wrong(kind)})
    for name, kind in typing.get_type_hints(ChatBody, include_extras=True).items()
}
assert set(WRONG_TYPES) == {field.name for field in msgspec.structs.fields(ChatBody)}

NESTED = b"[" * 200_000 + b"]" * 200_000


def called(arguments: Any) -> Json:
    """Return an earlier tool call."""
    return {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}


def tool(parameters: Json) -> Json:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


# Body and expected `param` of the error; None if no field is at fault.
MALFORMED: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "no JSON": (b"{'messages': []}", None),
    "cut off": (b'{"messages": [', None),
    "after the end": (body() + b"x", None),
    "an array": (b"[]", None),
    "a string": (b'"hello"', None),
    "null": (b"null", None),
    "invalid UTF-8": (b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', None),
    "nested arrays": (NESTED, None),
    "nested arrays in a known field": (b'{"messages": ' + NESTED + b"}", None),
    "nested arrays in an unknown field": (b'{"messages": [], "x": ' + NESTED + b"}", None),
    "nested objects": (b'{"metadata": ' + b'{"a":' * 200_000 + b"1" + b"}" * 200_001, None),
    "duplicate key": (b'{"messages": [], "messages": []}', "messages"),
    "duplicate key inside": (b'{"messages": [{"role": "user", "role": "tool"}]}', "role"),
    "duplicate unknown key": (b'{"x": 1, "x": 1}', "x"),
    "NaN": (b'{"messages": [{"role":"user","content":"a"}], "temperature": NaN}', "temperature"),
    "Infinity": (b'{"messages": [{"role":"user","content":"a"}], "top_p": Infinity}', "top_p"),
    "-Infinity": (b'{"messages": [{"role":"user","content":"a"}], "min_p": -Infinity}', "min_p"),
    "NaN in free form": (
        body(chat_template_kwargs={"deep": [1, {"x": float("nan")}]}),
        "chat_template_kwargs.deep[1].x",
    ),
    "a float beyond all bounds": (
        b'{"messages": [{"role":"user","content":"a"}], "temperature": 1e400}',
        "temperature",
    ),
    "a float beyond all bounds in free form": (
        b'{"messages": [{"role":"user","content":"a"}], "chat_template_kwargs": {"x": 1e400}}',
        "chat_template_kwargs.x",
    ),
    "a whole number beyond 64 bits": (body(seed=2**64), "seed"),
    "a number of 10,000 digits in free form": (
        b'{"messages": [{"role":"user","content":"a"}], "tools": [{"type": "function", '
        b'"function": {"name": "f", "parameters": {"maximum": 1' + b"0" * 10_000 + b"}}}]}",
        "tools[0].function.parameters.maximum",
    ),
    "a number of 10,000 digits": (
        b'{"messages": [{"role":"user","content":"a"}], "seed": 1' + b"0" * 10_000 + b"}",
        "seed",
    ),
    "huge max_tokens": (body(max_tokens=2**31), "max_tokens"),
    "negative max_tokens": (body(max_tokens=-1), "max_tokens"),
    "zero max_tokens": (body(max_tokens=0), "max_tokens"),
    "negative max_completion_tokens": (body(max_completion_tokens=-5), "max_completion_tokens"),
    "max_tokens of half a token": (body(max_tokens=1.5), "max_tokens"),
    "max_tokens as text": (body(max_tokens="5"), "max_tokens"),
    "max_tokens true": (body(max_tokens=True), "max_tokens"),
    "n of two": (body(n=2), "n"),
    "n of zero": (body(n=0), "n"),
    "stream as a number": (body(stream=1), "stream"),
    "temperature too high": (body(temperature=11), "temperature"),
    "temperature below zero": (body(temperature=-0.1), "temperature"),
    "top_p above one": (body(top_p=1.1), "top_p"),
    "too many top_logprobs": (body(logprobs=True, top_logprobs=21), "top_logprobs"),
    "top_logprobs without logprobs": (body(top_logprobs=2), "top_logprobs"),
    "stream_options without stream": (
        body(stream_options={"include_usage": True}),
        "stream_options",
    ),
    "include_usage as text": (
        body(stream=True, stream_options={"include_usage": "yes"}),
        "stream_options.include_usage",
    ),
    "an empty stop": (body(stop=""), "stop"),
    "a stop that is no text": (body(stop=["a", 5]), "stop[1]"),
    "logit_bias too strong": (body(logit_bias={"5": 101}), "logit_bias[...]"),
    "no messages": (b"{}", "messages"),
    "messages null": (b'{"messages": null}', "messages"),
    "messages empty": (b'{"messages": []}', "messages"),
    "messages a string": (b'{"messages": "hello"}', "messages"),
    "a message that is a string": (b'{"messages": ["hello"]}', "messages[0]"),
    "no role": (message(content="a"), "messages[0].role"),
    "unknown role": (message(role="wizard", content="a"), "messages[0].role"),
    "role null": (message(role=None, content="a"), "messages[0].role"),
    "no content": (message(role="user"), "messages[0].content"),
    "content null": (message(role="user", content=None), "messages[0].content"),
    "content a number": (message(role="user", content=5), "messages[0].content"),
    "an assistant's content a number": (
        message(role="assistant", content=5),
        "messages[0].content",
    ),
    "an image": (
        message(role="user", content=[{"type": "image_url", "image_url": {"url": "x"}}]),
        "messages[0].content[0].type",
    ),
    "a part without text": (
        message(role="user", content=[{"type": "text"}]),
        "messages[0].content[0].text",
    ),
    "a tool's answer to no call": (message(role="tool", content="x"), "messages[0].tool_call_id"),
    "a call without function": (
        message(role="assistant", tool_calls=[{"id": "a", "type": "function"}]),
        "messages[0].tool_calls[0].function",
    ),
    "a call with a number as arguments": (
        message(role="assistant", tool_calls=[called(5)]),
        "messages[0].tool_calls[0].function.arguments",
    ),
    "tools whose schemas are too large": (
        body(tools=[tool({"properties": {f"p{i}": {} for i in range(700)}})]),
        "tools",
    ),
    "a format whose schema is too large": (
        body(response_format={"type": "json_object", "schema": {"enum": [*range(2000)]}}),
        "response_format",
    ),
    "a json_schema that is too large": (
        body(
            response_format={
                "type": "json_schema",
                "json_schema": {"schema": {"items": [{"pattern": "a?" * 1000}]}},
            }
        ),
        "response_format",
    ),
    "no sequence breakers": (body(dry_sequence_breakers=[]), "dry_sequence_breakers"),
    "a window larger than memory": (body(repeat_last_n=2**31 - 1), "repeat_last_n"),
    "a penalty of nothing": (body(repeat_penalty=0), "repeat_penalty"),
    "a tool without function": (body(tools=[{"type": "function"}]), "tools[0].function"),
    "a tool of another type": (
        body(tools=[{"type": "web_search", "function": {"name": "f"}}]),
        "tools[0].type",
    ),
    "a tool without name": (
        body(tools=[{"type": "function", "function": {}}]),
        "tools[0].function.name",
    ),
    "a tool that must be called, but none": (body(tool_choice="required"), "tool_choice"),
    "a tool_choice that names no tool": (
        body(
            tools=[{"type": "function", "function": {"name": "f"}}],
            tool_choice={"type": "function", "function": {"name": "g"}},
        ),
        "tool_choice",
    ),
    "an unknown tool_choice": (body(tool_choice="perhaps"), "tool_choice"),
    "an unknown response_format": (body(response_format={"type": "xml"}), "response_format.type"),
    "a json_schema without schema": (
        body(response_format={"type": "json_schema"}),
        "response_format.json_schema",
    ),
    "functions": (body(functions=[]), "functions"),
    "grammar": (body(grammar="root ::= x"), "grammar"),
    "audio": (body(audio={"voice": "x"}), "audio"),
}
