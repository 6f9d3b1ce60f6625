"""Translation of Responses bodies: fields mapped, ignored and named, or refused."""

import json
import typing
from typing import Any

import orjson
import pytest

from promptly.errors import InvalidRequest
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.dialects.responses.body import ResponsesBody
from promptly.gateway.dialects.responses.request import parse_responses
from tests.gateway.malformed import MALFORMED

Json = dict[str, Any]

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}
JSON_SCHEMA = {"type": "json_schema", "name": "person", "schema": SCHEMA, "strict": True}


def body(**fields: Any) -> bytes:
    return json.dumps({"input": "hello", **fields}).encode()


def parse(**fields: Any) -> ChatRequest:
    return parse_responses(body(**fields))[0]


def upstream(**fields: Any) -> Json:
    """Return the body for counting: upstream's fields without those of every request."""
    sent: Json = json.loads(parse(**fields).counting_body())
    return sent


def messages(*items: Any, **fields: Any) -> list[Json]:
    found: list[Json] = upstream(input=list(items), **fields)["messages"]
    return found


def echo(**fields: Any) -> Json:
    found: Json = json.loads(orjson.dumps(parse_responses(body(**fields))[1].fields))
    return found


def message(*parts: Json, role: str = "user", **fields: Any) -> Json:
    return {"role": role, "content": list(parts), **fields}


def refusal(sent: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_responses(sent)
    problem = caught.value
    assert problem.status == 400
    assert 10 < len(problem.message) < 300
    return problem


def test_input_as_text_is_one_message_of_the_user() -> None:
    assert upstream() == {"messages": HELLO}


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer"])
@pytest.mark.parametrize("kind", [{}, {"type": "message"}, {"type": None}])
def test_messages_of_every_role(role: str, kind: Json) -> None:
    rest = {"id": "msg_1", "status": "completed", "phase": "final_answer"}
    sent = {"role": role, "content": "hé 🌍", **kind, **rest}
    assert messages(sent) == [{"role": role, "content": "hé 🌍"}]


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([{"type": "input_text", "text": "a"}], "a"),
        ([{"type": "output_text", "text": "a", "annotations": [{}], "logprobs": [1]}], "a"),
        ([{"type": "output_text", "text": "a", "annotations": None}], "a"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
        ([], ""),
        (
            [{"type": "input_text", "text": "a"}, {"type": "refusal", "refusal": "b"}],
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        ),
    ],
)
def test_parts_become_text(parts: list[Json], content: Any) -> None:
    assert messages(message(*parts, role="assistant")) == [
        {"role": "assistant", "content": content}
    ]


@pytest.mark.parametrize("kind", ["input_image", "input_file", "input_audio", "text", "video"])
def test_parts_other_than_text_are_refused(kind: str) -> None:
    text = {"type": "input_text", "text": "a"}
    items = [*HELLO, *HELLO, message(text, {"type": kind, "image_url": "data:"})]
    problem = refusal(body(input=items))
    assert (problem.param, problem.code) == ("input[2].content[1]", "unsupported_parameter")
    assert kind in problem.message


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "s"}],
            "content": [{"type": "reasoning_text", "text": "hm"}],
            "encrypted_content": "x",
            "status": "completed",
        },
    ],
)
def test_past_thoughts_are_left_out(item: Json) -> None:
    assert messages(*HELLO, item, {"role": "assistant", "content": "b"}) == [
        *HELLO,
        {"role": "assistant", "content": "b"},
    ]
    assert refusal(body(input=[item])).param == "input"


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "5"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "compaction", "encrypted_content": "x"},
    ],
)
def test_other_items_are_refused(item: Json) -> None:
    problem = refusal(body(input=[*HELLO, item]))
    assert (problem.param, problem.code) == ("input[1]", "unsupported_parameter")
    assert item["type"] in problem.message
    # Tools are refused with the variable that an operator would set.
    assert ("RESPONSES_PROFILE=tools" in problem.message) == (
        item["type"] not in ("item_reference", "compaction")
    )


def test_instructions_are_the_first_system_message() -> None:
    found = messages({"role": "developer", "content": "b"}, instructions="be brief")
    assert found == [
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": "b"},
    ]


def test_the_models_name_does_not_matter() -> None:
    chat = parse(model="gpt-99")
    assert (chat.ignored, upstream(model="gpt-99")) == ((), {"messages": HELLO})


def test_max_output_tokens() -> None:
    chat = parse(max_output_tokens=7)
    assert chat.max_tokens == 7
    assert json.loads(chat.upstream_body(7))["max_tokens"] == 7
    assert parse().max_tokens is None
    assert echo(max_output_tokens=7)["max_output_tokens"] == 7


FORM = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"stop": "x"}, {"stop": "x"}),
        ({"stop": ["x", "y"]}, {"stop": ["x", "y"]}),
        ({"seed": -3}, {"seed": -3}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": None}}, {}),
        ({"text": {}}, {}),
        (
            {"text": {"format": {"type": "json_object"}}},
            {"response_format": {"type": "json_object"}},
        ),
        ({"text": {"format": JSON_SCHEMA}}, {"response_format": FORM}),
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"effort": "none"}}, {"reasoning_effort": "none"}),
        ({"reasoning": {}}, {}),
        ({"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"top_logprobs": 0}, {}),
        ({"background": False}, {}),
        ({"truncation": "disabled"}, {}),
        ({"include": []}, {}),
        ({"tools": []}, {}),
    ],
)
def test_mapped_fields(fields: Json, sent: Json) -> None:
    assert upstream(**fields) == {"messages": HELLO, **sent}
    assert parse(**fields).ignored == ()


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"store": True}, ("store",)),
        ({"store": False}, ("store",)),
        ({"user": "ann"}, ("user",)),
        ({"service_tier": "flex"}, ("service_tier",)),
        ({"safety_identifier": "x"}, ("safety_identifier",)),
        ({"prompt_cache_retention": "24h"}, ("prompt_cache_retention",)),
        ({"prompt_cache_options": {"ttl": "30m"}}, ("prompt_cache_options",)),
        (
            {"stream": True, "stream_options": {"include_obfuscation": False}},
            ("stream_options",),
        ),
        ({"text": {"verbosity": "low"}}, ("text.verbosity",)),
        ({"reasoning": {"summary": "auto"}}, ("reasoning.summary",)),
        ({"reasoning": {"generate_summary": "auto"}}, ("reasoning.generate_summary",)),
        ({"include": ["reasoning.encrypted_content"]}, ("include",)),
    ],
)
def test_fields_without_effect_are_left_out_and_named(
    fields: Json, ignored: tuple[str, ...]
) -> None:
    assert parse(**fields).ignored == ignored
    assert upstream(**fields) == {"messages": HELLO}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["message.output_text.logprobs"]}, "include[0]"),
        ({"include": ["reasoning.encrypted_content", "file_search_call.results"]}, "include[1]"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function", "name": "f", "parameters": {}}]}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"max_tool_calls": 1}, "max_tool_calls"),
    ],
)
def test_fields_that_would_change_the_answer_are_refused(fields: Json, param: str) -> None:
    problem = refusal(body(**fields))
    assert (problem.param, problem.code) == (param, "unsupported_parameter")
    assert problem.message.startswith(f"Unsupported parameter: '{param}'")
    assert ("RESPONSES_PROFILE=tools" in problem.message) == ("tool" in param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": HELLO}, "messages"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"n_predict": 5}, "n_predict"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"client_metadata": {"a": "b"}}, "client_metadata"),
        ({"reasoning": {"context": "auto"}}, "reasoning.context"),
        ({"a\r\nb": 5}, "a\r\nb"),
        ({"x" * 1000: 5}, "x" * 100),
        ({"text": {"colour": "red"}}, "text.colour"),
        ({"text": {"format": {"type": "text", "json_schema": {}}}}, "text.format.json_schema"),
        ({"reasoning": {"budget": 5}}, "reasoning.budget"),
    ],
)
def test_unknown_fields_are_refused(fields: Json, param: str) -> None:
    problem = refusal(body(**fields))
    assert (problem.param, problem.code) == (param, "unknown_parameter")


def test_null_means_absent() -> None:
    names = set(ResponsesBody.__struct_fields__) - {"input"}
    absent = dict.fromkeys([*names, "store", "conversation", "tool_choice", "whatever"])
    nested = {
        "text": {"format": None, "verbosity": None, "x": None},
        "reasoning": {"effort": None, "summary": None, "x": None},
    }
    for fields in (absent, {**absent, **nested}):
        assert parse(**fields) == parse()
        assert echo(**fields) == echo()
    assert refusal(body(input=None)).message == "Missing required parameter: 'input'."


def test_metadata_is_repeated_within_its_bounds() -> None:
    full = {f"{number:064}": "v" * 512 for number in range(16)}
    assert echo(metadata=full)["metadata"] == full
    assert upstream(metadata=full) == {"messages": HELLO}
    assert parse(metadata=full).ignored == ()
    assert refusal(body(metadata={**full, "one more": "x"})).param == "metadata"
    assert refusal(body(metadata={"k" * 65: "v"})).param == "metadata"
    assert refusal(body(metadata={"k": "v" * 513})).param == "metadata[...]"
    assert refusal(body(metadata={"k": 5})).param == "metadata[...]"


def test_what_the_response_repeats() -> None:
    assert echo() == {
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": False,
        "reasoning": {"effort": None, "summary": None},
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": None,
    }
    fields = {
        "instructions": 'be "brief"\n🌍',
        "max_output_tokens": 5,
        "metadata": {"a": "b"},
        "reasoning": {"effort": "high", "summary": None},
        "temperature": 0.25,
        "text": {"format": JSON_SCHEMA},
        "top_logprobs": 3,
        "top_p": 0.75,
    }
    constant = {"parallel_tool_calls": False, "tool_choice": "auto", "tools": []}
    assert echo(**fields) == {**fields, **constant}


@pytest.mark.parametrize("stream", [True, False])
def test_stream(stream: bool) -> None:
    assert parse(stream=stream).stream is stream


WRONG = {
    name: 5
    if name not in ("max_output_tokens", "temperature", "top_p", "top_logprobs", "seed")
    else "x"
    for name in typing.get_type_hints(ResponsesBody)
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_type_is_refused_in_every_known_field(name: str) -> None:
    assert refusal(body(**{name: WRONG[name]})).param == name


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (b"{}", "input"),
        (body(input=[]), "input"),
        (body(input=["hello"]), "input[0]"),
        (body(input=[{"content": "a"}]), "input[0].role"),
        (body(input=[{"role": "tool", "content": "a"}]), "input[0].role"),
        (body(input=[{"role": "user"}]), "input[0].content"),
        (body(input=[{"type": 5, "role": "user", "content": "a"}]), "input[0].type"),
        (body(input=[message({"text": "a"})]), "input[0].content[0].type"),
        (body(input=[message({"type": "input_text"})]), "input[0].content[0].text"),
        (body(input=[{"role": "user", "content": ["a"]}]), "input[0].content[0]"),
        (body(max_output_tokens=0), "max_output_tokens"),
        (body(max_output_tokens=2**31), "max_output_tokens"),
        (body(temperature=11), "temperature"),
        (body(top_p=1.1), "top_p"),
        (body(top_logprobs=21), "top_logprobs"),
        (body(stop=""), "stop"),
        (body(truncation="some"), "truncation"),
        (body(text={"format": {"type": "xml"}}), "text.format.type"),
        (body(text={"format": {"type": "json_schema", "name": "n"}}), "text.format.schema"),
        (body(text={"format": {"type": "json_schema", "schema": {}}}), "text.format.name"),
        (
            body(text={"format": {**JSON_SCHEMA, "schema": {"maximum": float("nan")}}}),
            "text.format.schema.maximum",
        ),
        (body(temperature=float("inf")), "temperature"),
        (body(metadata={"half": "\ud800"}), None),
        (body(input="half \ud800"), None),
    ],
)
def test_wrong_values_are_refused_naming_the_field(sent: bytes, param: str | None) -> None:
    assert refusal(sent).param == param


@pytest.mark.parametrize(
    "name", ["empty", "no JSON", "cut off", "an array", "null", "invalid UTF-8", "nested arrays"]
)
def test_bodies_that_are_not_objects(name: str) -> None:
    sent, param = MALFORMED[name]
    assert refusal(sent).param == param


@pytest.mark.parametrize("place", ["input", "metadata", "store", "instructions"])
def test_nesting_without_end_is_refused(place: str) -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    refusal(b'{"%b": %b}' % (place.encode(), deep))


def test_the_bound_is_at_least_the_prompt() -> None:
    texts = ["🌍" * 5000, '"\\\n' * 1000]
    chat = parse(input=[{"role": "user", "content": text} for text in texts], instructions="x" * 99)
    assert chat.prompt_bound >= sum(len(text.encode()) for text in texts) + 99
