"""Conversations that come back incomplete: the document allows exactly those that are accepted."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from promptly.errors import InvalidRequest
from promptly.gateway.dialects.chat.request import parse_chat
from promptly.gateway.dialects.messages.request import parse_count, parse_messages
from promptly.gateway.dialects.responses.profile import TEXT, TOOLS
from promptly.gateway.dialects.responses.request import parse_responses
from promptly.openapi import document

Json = dict[str, Any]

PARSERS: dict[str, Callable[[bytes], Any]] = {
    "/v1/chat/completions": parse_chat,
    "/v1/chat/completions/input_tokens": parse_chat,
    "/v1/messages": parse_messages,
    "/v1/messages/count_tokens": parse_count,
}
RESPONSES = ("/v1/responses", "/v1/responses/input_tokens")
DOCUMENTS = {profile: document("http://x", profile) for profile in ("text", "tools")}

# Parts of a tool's result, and whether they are accepted, as text or with a text in their place.
PARTS: list[tuple[Any, bool]] = [
    ({"type": "image"}, True),
    ({"type": "document", "source": {"data": None}}, True),
    ({"type": ""}, True),
    ({"type": "a, b\n", "text": 5}, True),
    ({"type": None, "text": "a"}, False),
    ({"type": 5}, False),
    ({}, False),
    ("image", False),
    (None, False),
]


def is_documented(path: str, body: Json, profile: str) -> bool:
    """Return whether a body is valid under the document of a gateway with this profile."""
    described = DOCUMENTS[profile]
    content = described["paths"][path]["post"]["requestBody"]["content"]
    root = {"allOf": [content["application/json"]["schema"]], **described}
    return Draft202012Validator(root).is_valid(body)


def check(path: str, body: Json, profile: str, accepted: bool) -> None:
    """Fail unless the document and the gateway agree with `accepted`."""
    profiles = {"text": TEXT, "tools": TOOLS}
    parse = PARSERS.get(path) or partial(parse_responses, profile=profiles[profile])
    try:
        parse(json.dumps(body).encode())
        found = True
    except InvalidRequest:
        found = False
    assert (found, is_documented(path, body, profile)) == (accepted, accepted), body


def check_chat(messages: list[Json], accepted: bool) -> None:
    for path in ("/v1/chat/completions", "/v1/chat/completions/input_tokens"):
        check(path, {"messages": messages}, "text", accepted)


def check_messages(messages: list[Json], accepted: bool) -> None:
    check("/v1/messages", {"messages": messages, "max_tokens": 5}, "text", accepted)
    check("/v1/messages/count_tokens", {"messages": messages}, "text", accepted)


def check_responses(items: list[Json], accepted: bool, profiles: tuple[str, ...]) -> None:
    for path in RESPONSES:
        for profile in profiles:
            check(path, {"input": items}, profile, accepted)


@pytest.mark.parametrize(("part", "accepted"), [*PARTS, ({"text": "a"}, True)])
def test_parts_of_a_tools_result(part: Any, accepted: bool) -> None:
    text = {"type": "text", "text": "a"}
    check_chat([{"role": "tool", "tool_call_id": "a", "content": [text, part]}], accepted)
    result = {"type": "tool_result", "tool_use_id": "a", "content": [text, part]}
    check_messages([{"role": "user", "content": [result]}], accepted)


OUTPUTS: dict[str, Json] = {
    "function_call": {"name": "f", "arguments": "{}"},
    "custom_tool_call": {"name": "f", "input": ""},
    "local_shell_call": {"action": {}},
}


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize(("part", "accepted"), [*PARTS, ({"text": "a"}, False)])
def test_parts_of_a_calls_output(kind: str, part: Any, accepted: bool) -> None:
    call = {"type": kind, "call_id": "a", **OUTPUTS[kind]}
    parts = [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "a"}, part]
    output = {"type": f"{kind}_output", "call_id": "a", "output": parts}
    check_responses([call, output], accepted, ("tools",))


@pytest.mark.parametrize("result", [{}, {"content": None}, {"content": ""}, {"content": []}])
def test_a_result_that_is_empty_or_left_out(result: Json) -> None:
    check_chat([{"role": "tool", "tool_call_id": "a", **result}], accepted=True)
    block = {"type": "tool_result", "tool_use_id": "a", **result}
    check_messages([{"role": "user", "content": [block]}], accepted=True)
    output = {"output": result["content"]} if result else {}
    for kind, fields in OUTPUTS.items():
        call = {"type": kind, "call_id": "a", **fields}
        item = {"type": f"{kind}_output", "call_id": "a", **output}
        check_responses([call, item], True, ("tools",))


# Texts of an assistant's message that a client left out, since they were empty.
TEXTLESS = ("text", "thinking", "refusal", "output_text")


@pytest.mark.parametrize("content", [..., None, "", [], *([{"type": kind}] for kind in TEXTLESS)])
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_message_without_its_text(role: str, content: Any) -> None:
    kind = content[0]["type"] if isinstance(content, list) and content else None
    is_assistant = role == "assistant"
    empty = content in ("", [])
    message = {"role": role} | ({} if content is ... else {"content": content})
    turns = [message, {"role": "user", "content": "a"}]
    may_lack = is_assistant and kind in (None, "text", "refusal")
    check_chat(turns, accepted=empty or may_lack)
    may_lack = is_assistant and kind in (None, "text", "thinking")
    check_messages(turns, accepted=empty or may_lack)
    # Its own answers' parts, which are in nobody else's messages, may lack their text everywhere.
    may_lack = kind in ("output_text", "refusal") or (is_assistant and kind is None)
    check_responses(turns, empty or may_lack, ("text", "tools"))
