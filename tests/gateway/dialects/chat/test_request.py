"""Translation of chat completion bodies: fields refused, forwarded, or ignored and named."""

import json
from typing import Any

import msgspec
import pytest

from promptly.errors import InvalidRequest, UnsupportedParameter
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.dialects.chat.request import Forwarded, parse_chat
from sandbox.llama import prompt
from tests.gateway.malformed import HELLO, MALFORMED, NESTED, WRONG_TYPES, body, called

TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
        "strict": True,
    },
}

# A valid value for every field that goes to upstream unchanged.
FORWARDED: dict[str, Any] = {
    "temperature": 0.7,
    "top_p": 0.9,
    "stop": ["a", "b"],
    "seed": -1,
    "frequency_penalty": -0.5,
    "presence_penalty": 2.0,
    "logit_bias": {"5": -100.0, "word": 1.5},
    "logprobs": True,
    "top_logprobs": 20,
    "tools": [TOOL],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    },
    "reasoning_effort": "low",
    "chat_template_kwargs": {"enable_thinking": True, "deep": [{"x": None}]},
    "top_k": 40,
    "min_p": 0.05,
    "typical_p": 1.0,
    "top_n_sigma": -1.0,
    "min_keep": 0,
    "repeat_penalty": 1.1,
    "repeat_last_n": 0,
    "dynatemp_range": 0.5,
    "dynatemp_exponent": 1.5,
    "mirostat": 2,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.1,
    "dry_multiplier": 0.8,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_penalty_last_n": 0,
    "dry_sequence_breakers": ["\n", ":"],
    "xtc_probability": 0.5,
    "xtc_threshold": 0.1,
}
MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "developer", "content": [{"type": "text", "text": "really"}]},
    {"role": "user", "content": [{"type": "text", "text": "hé"}, {"type": "text", "text": "🌍"}]},
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "5"},
    {"role": "user", "content": "and now?", "name": "ann"},
]


def upstream(chat: ChatRequest, max_tokens: int | None = None) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(chat.upstream_body(max_tokens))
    return sent


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_bodies_are_refused_naming_the_field(name: str) -> None:
    sent, param = MALFORMED[name]
    with pytest.raises(InvalidRequest) as refusal:
        parse_chat(sent)
    assert refusal.value.status == 400
    assert refusal.value.param == param
    assert 10 < len(refusal.value.message) < 300
    assert param is None or param.split(".")[0].split("[")[0] in refusal.value.message


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_wrong_type_is_refused_in_every_known_field(name: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_chat(WRONG_TYPES[name])
    assert refusal.value.param is not None
    assert refusal.value.param.removesuffix("[...]") == name


def test_the_table_of_forwarded_fields_is_complete() -> None:
    declared = {field.name for field in msgspec.structs.fields(Forwarded)}
    assert set(FORWARDED) | {"messages"} == declared


@pytest.mark.parametrize("name", FORWARDED)
def test_a_known_field_is_forwarded(name: str) -> None:
    fields = {name: FORWARDED[name]}
    if name == "top_logprobs":
        fields["logprobs"] = True
    if name == "tool_choice":
        fields["tools"] = [TOOL]
    chat = parse_chat(body(**fields))
    assert upstream(chat)[name] == FORWARDED[name]
    assert chat.ignored == ()


def test_everything_at_once_is_forwarded_and_streamed() -> None:
    together = {name: item for name, item in FORWARDED.items() if "logprobs" not in name}
    chat = parse_chat(json.dumps({"messages": MESSAGES, **together}).encode())
    assert upstream(chat) == {
        "messages": MESSAGES,
        **together,
        "stream": True,
        "stream_options": {"include_usage": True},
        "timings_per_token": True,
        "return_progress": True,
    }
    assert json.loads(chat.counting_body()) == {"messages": MESSAGES, **together}


def test_llama_server_has_no_logprobs_beside_tools() -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        parse_chat(body(logprobs=True, tools=[TOOL]))
    assert refusal.value.param == "logprobs"
    assert "logprobs" in upstream(parse_chat(body(logprobs=True, tools=[])))


def test_a_named_function_is_the_only_one_and_must_be_called() -> None:
    other = {"type": "function", "function": {"name": "g"}}
    choice = {"type": "function", "function": {"name": "g"}}
    sent = upstream(parse_chat(body(tools=[TOOL, other], tool_choice=choice)))
    assert (sent["tools"], sent["tool_choice"]) == ([other], "required")


def test_null_means_absent() -> None:
    chat = parse_chat(body(**dict.fromkeys([*FORWARDED, "model", "max_tokens", "stream", "user"])))
    assert set(upstream(chat)) == set(upstream(parse_chat(body())))
    assert chat.ignored == ()
    assert (chat.stream, chat.include_usage, chat.max_tokens) == (False, False, None)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 2**31 - 1}, 2**31 - 1),
    ],
)
def test_one_limit_is_sent(fields: dict[str, Any], limit: int | None) -> None:
    chat = parse_chat(body(**fields))
    assert chat.max_tokens == limit
    sent = upstream(chat, limit)
    assert sent.get("max_tokens") == limit
    assert "max_completion_tokens" not in sent
    assert upstream(chat, 3)["max_tokens"] == 3


@pytest.mark.parametrize(
    "name",
    ["n_predict", "ignore_eos", "id_slot", "n_cmpl", "cache_prompt", "n_probs", "t_max_predict_ms"],
)
def test_fields_that_could_defeat_metering_are_dropped_and_named(name: str) -> None:
    chat = parse_chat(body(**{name: 5, "user": "ann"}))
    assert chat.ignored == (name, "user")
    assert not {name, "user"} & set(upstream(chat))


def test_the_clients_own_streaming_fields_do_not_reach_upstream() -> None:
    chat = parse_chat(
        body(
            stream=True,
            stream_options={"include_usage": False, "include_obfuscation": True},
            n=1,
            model="other",
            timings_per_token=False,
            return_progress=False,
        )
    )
    assert chat.stream
    assert not chat.include_usage
    assert chat.ignored == ("timings_per_token", "return_progress")
    assert upstream(chat) == upstream(parse_chat(body()))
    # No key appears twice.
    assert chat.upstream_body(5).count(b'"stream"') == 1


def test_include_usage() -> None:
    assert parse_chat(body(stream=True, stream_options={"include_usage": True})).include_usage


def test_names_of_ignored_fields_are_safe_in_a_header() -> None:
    names = ["a\r\nset-cookie: x", "b, c", "ü", "x" * 65, "", "good-name_1.2"]
    assert parse_chat(body(**dict.fromkeys(names, 1))).ignored == ("good-name_1.2",)
    many = parse_chat(body(**{f"f{number}": 1 for number in range(500)})).ignored
    assert len(many) == 20


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ({"refusal": "no"}, {"content": "no"}),
        ({"content": None, "refusal": "no"}, {"content": "no"}),
        ({"content": "yes", "refusal": "no"}, {"content": "yes"}),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ),
        ({}, {"content": ""}),
        ({"content": None, "tool_calls": None}, {"content": ""}),
        ({"content": None, "tool_calls": []}, {"content": "", "tool_calls": []}),
        ({"content": []}, {"content": []}),
        (
            {"content": [{"type": "text"}, {"type": "refusal"}]},
            {"content": [{"type": "text", "text": ""}, {"type": "text", "text": ""}]},
        ),
        *(
            ({**content, "reasoning_content": "hm"}, {"content": "", "reasoning_content": "hm"})
            for content in ({}, {"content": None}, {"content": ""})
        ),
        *(
            (
                {"content": None, "tool_calls": [called(arguments)]},
                {"content": "", "tool_calls": [called(sent)]},
            )
            for arguments, sent in (
                ('{"a":  1}', '{"a":  1}'),
                ({"a": "é"}, '{"a":"é"}'),
                *((broken, "{}") for broken in ("", " ", "{", '{"city": "Par', "Paris", "[1]")),
                (None, "{}"),
                # This input crashes llama-server.
                (NESTED.decode(), "{}"),
            )
        ),
        (
            {"tool_calls": [{"id": "1", "function": {"name": "f"}}]},
            {"content": "", "tool_calls": [called("{}")]},
        ),
    ],
)
def test_earlier_answers_in_upstreams_words(message: dict[str, Any], sent: dict[str, Any]) -> None:
    messages = [{"role": "assistant", **message}, *HELLO]
    chat = parse_chat(json.dumps({"messages": messages}).encode())
    assert upstream(chat)["messages"] == [{"role": "assistant", **sent}, *HELLO]


def test_parts_of_a_tools_result_that_are_not_text() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}},
        {"type": "file", "file": {"file_id": "x"}},
    ]
    messages = [
        {"role": "assistant", "content": "", "tool_calls": [called("{}")]},
        {"role": "tool", "tool_call_id": "1", "content": parts},
        {"role": "tool", "tool_call_id": "1", "content": parts[1:2]},
        *HELLO,
    ]
    chat = parse_chat(json.dumps({"messages": messages, "user": "ann"}).encode())
    image = {"type": "text", "text": "[image not supported by this model]"}
    file = {"type": "text", "text": "[file not supported by this model]"}
    found = [message["content"] for message in upstream(chat)["messages"][1:3]]
    assert found == [[parts[0], image, file], [image]]
    assert chat.ignored == ("user", "tool.image_url", "tool.file")


@pytest.mark.parametrize("content", [{}, {"content": None}])
def test_a_tools_result_of_null_or_nothing_is_empty(content: dict[str, None]) -> None:
    message = {"role": "tool", "tool_call_id": "1"}
    chat = parse_chat(json.dumps({"messages": [{**message, **content}]}).encode())
    assert upstream(chat)["messages"] == [{**message, "content": ""}]


@pytest.mark.parametrize(
    ("fields", "sent", "without_alternatives"),
    [
        ({"logprobs": True}, {"logprobs": True, "top_logprobs": 1}, True),
        ({"logprobs": True, "top_logprobs": 0}, {"logprobs": True, "top_logprobs": 1}, True),
        ({"logprobs": True, "top_logprobs": 1}, {"logprobs": True, "top_logprobs": 1}, False),
        ({"logprobs": True, "top_logprobs": 7}, {"logprobs": True, "top_logprobs": 7}, False),
        ({"logprobs": False, "top_logprobs": 0}, {"logprobs": False}, False),
        ({"top_logprobs": 0}, {}, False),
    ],
)
def test_alternatives_of_logprobs(fields: Any, sent: Any, without_alternatives: bool) -> None:
    chat = parse_chat(body(**fields))
    assert upstream(chat) == {**upstream(parse_chat(body())), **sent}
    assert chat.without_alternatives == without_alternatives


def test_unknown_fields_inside_messages_are_left_out() -> None:
    chat = parse_chat(
        json.dumps({"messages": [{**HELLO[0], "cache_control": {"type": "x"}}]}).encode()
    )
    assert upstream(chat)["messages"] == HELLO


@pytest.mark.parametrize(
    "messages",
    [
        HELLO,
        MESSAGES,
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": "🌍" * 5000}],
        [{"role": "user", "content": '"\\\n' * 1000}],
        [{"role": "user", "content": "a"}] * 500,
    ],
)
def test_the_bound_is_at_least_the_prompt(messages: list[Any]) -> None:
    chat = parse_chat(json.dumps({"messages": messages, "tools": [TOOL]}).encode())
    # The worst possible tokenizer makes one token per byte.
    assert chat.prompt_bound >= len(
        prompt.template({"messages": messages, "tools": [TOOL]}).encode()
    )
