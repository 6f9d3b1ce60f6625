"""The simulator matches a real llama-server: same statuses, same events, same keys in order."""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest

from sandbox.llama import SimulatedLlama
from sandbox.real_llama import RealLlama
from tests.sandbox.llama.wire import CHAT, WEATHER, Json, call, hello, is_kept, post, sim, stream

pytestmark = pytest.mark.real_llama

ASK_FOR_ALL: Json = {
    "timings_per_token": True,
    "return_progress": True,
    "stream_options": {"include_usage": True},
}
TOOL: Json = {"tools": [WEATHER], "tool_choice": "required", "logit_bias": [["<tool_call>", 25]]}
THINK = {"chat_template_kwargs": {"enable_thinking": True}, "ignore_eos": True}
END_OF_SEQUENCE = 4  # its id in the tiny model


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLlama]:
    server = RealLlama(tmp_path_factory.mktemp("real"), alias="sim-model")
    server.start()
    yield server
    server.stop()


def shape(value: Any) -> Any:
    """Return keys in order with their types; a list is represented by its first entry."""
    if isinstance(value, dict):
        return [(key, shape(entry)) for key, entry in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value and isinstance(value[0], dict) else "list"
    return "number" if type(value) in (int, float) else type(value).__name__


def kinds(stream_events: list[Any]) -> list[Any]:
    """Return the shapes of a stream's events, consecutive duplicates collapsed."""
    shapes = ["[DONE]" if event == "[DONE]" else shape(event) for event in stream_events]
    return [shape_ for shape_, _ in groupby(shapes)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        ASK_FOR_ALL,
        {"timings_per_token": True},
        {"return_progress": True},
        {"stream_options": {"include_usage": True}},
        {"logprobs": True, "top_logprobs": 2, "timings_per_token": True},
        {"max_tokens": 24, **THINK, **ASK_FOR_ALL},
    ],
    ids=["plain", "all", "timings", "progress", "usage", "logprobs", "thoughts"],
)
def test_streams_have_the_same_events(
    llama: SimulatedLlama, real: RealLlama, body: dict[str, Any]
) -> None:
    # Ignoring the end of sequence up to the limit gives both answers the same parts.
    body = {"messages": hello(), "max_tokens": 6, "ignore_eos": True, **body}
    assert kinds(stream(llama.url, **body)) == kinds(stream(real.url, **body))


REPORTED: Json = {"verbose": True, "response_fields": ["stop_type", "stopping_word"]}


@pytest.mark.parametrize("body", [{}, {"timings_per_token": True}, ASK_FOR_ALL])
@pytest.mark.parametrize(
    ("end", "stop_type"),
    [
        ({"stop": list("aeiou"), "max_tokens": 200}, "word"),
        ({"stop": ["never"], "max_tokens": 4, "ignore_eos": True}, "limit"),
        ({"stop": ["never"], "max_tokens": 8, "logit_bias": [[END_OF_SEQUENCE, 50]]}, "eos"),
    ],
    ids=["word", "limit", "end"],
)
def test_the_end_is_reported_alike(
    llama: SimulatedLlama, real: RealLlama, body: Json, end: Json, stop_type: str
) -> None:
    # The seed is one with which the model writes on for a while.
    directives = "tokens=1" if stop_type == "eos" else "tokens=60"
    body = {**body, **end, **REPORTED, "seed": 1}
    ends = []
    for server, messages in ((llama, sim(directives)), (real, hello())):
        events = stream(server.url, messages=messages, **body)
        [finish] = [e for e in events if e != "[DONE]" and "__verbose" in e]
        assert finish["choices"][0]["finish_reason"]
        assert finish["__verbose"]["stop_type"] == stop_type
        assert (finish["__verbose"]["stopping_word"] in "aeiou") is (stop_type == "word") or (
            finish["__verbose"]["stopping_word"] == ""
        )
        ends.append(shape(finish))
    assert ends[0] == ends[1]
    wholes = [
        post(server.url, messages=messages, **body)[1]
        for server, messages in ((llama, sim(directives)), (real, hello()))
    ]
    assert shape(wholes[0]) == shape(wholes[1])


def test_streamed_tool_calls_have_the_same_events(llama: SimulatedLlama, real: RealLlama) -> None:
    body: Json = {"messages": hello(), "max_tokens": 300, **TOOL, **ASK_FOR_ALL}
    expected = kinds(stream(real.url, **body))
    found = kinds(stream(llama.url, **body))
    # The model may start another call before its limit; head and arguments then alternate.
    assert [kind for kind in expected if kind in found] == expected
    assert all(kind in expected for kind in found)


def test_a_named_function_is_taken_for_auto(llama: SimulatedLlama, real: RealLlama) -> None:
    choice = {"type": "function", "function": {"name": WEATHER["function"]["name"]}}
    body: Json = {"messages": hello(), "max_tokens": 6, "ignore_eos": True, "tools": [WEATHER]}
    for server in (llama, real):
        _, answer = post(server.url, **body, tool_choice=choice)
        assert answer["choices"][0]["finish_reason"] == "length"


def test_a_first_token_inside_a_character(llama: SimulatedLlama, real: RealLlama) -> None:
    body: Json = {"timings_per_token": True, "max_tokens": 8}
    expected = stream(real.url, messages=hello(), grammar='root ::= "日本" [a-z ]+', **body)
    found = stream(llama.url, messages=sim("first=utf8"), **body)
    assert kinds(found) == kinds(expected)
    assert "role" not in found[0]["choices"][0]["delta"]


def test_a_prefilled_answer(llama: SimulatedLlama, real: RealLlama) -> None:
    messages = [*hello(), {"role": "assistant", "content": "Well then"}]
    for server in (llama, real):
        found = stream(server.url, messages=messages, max_tokens=6, ignore_eos=True)
        texts = [event["choices"][0]["delta"].get("content") for event in found[:3]]
        # The prefill is repeated with the first token.
        assert texts[0] is None
        assert texts[1].startswith("Well then") and texts[1] != "Well then"
        assert not texts[2].startswith("Well then")


def test_an_answer_that_ends_at_once(llama: SimulatedLlama, real: RealLlama) -> None:
    body: Json = {"timings_per_token": True, "max_tokens": 8}
    bias = [[END_OF_SEQUENCE, 50]]
    expected = stream(real.url, messages=hello(), logit_bias=bias, **body)
    assert kinds(stream(llama.url, messages=sim("tokens=1"), **body)) == kinds(expected)


@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": 3},
        {"max_tokens": 0},
        {"max_tokens": 24, **THINK},
        {"max_tokens": 3, "logprobs": True, "top_logprobs": 1},
        {"max_tokens": 400, **TOOL},
    ],
    ids=["plain", "zero", "thoughts", "logprobs", "tools"],
)
def test_whole_answers_have_the_same_shape(
    llama: SimulatedLlama, real: RealLlama, body: dict[str, Any]
) -> None:
    body = {"messages": hello(), **body}
    simulated, genuine = (call(server.url, "POST", CHAT, body) for server in (llama, real))
    assert (simulated[0], set(simulated[1])) == (genuine[0], set(genuine[1]))
    assert shape(json.loads(simulated[2])) == shape(json.loads(genuine[2]))


def called(arguments: Any) -> dict[str, Any]:
    """Return an earlier tool call with these arguments."""
    return {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}


def without(name: str, value: Json) -> Json:
    return {key: item for key, item in value.items() if key != name}


CALL = called("{}")
TOOL_RESULT: Json = {"role": "tool", "tool_call_id": "1"}
CONTENTS: list[Any] = [None, "", [], 5, {"a": 1}, "5"]

# Messages of an earlier turn, all but the role.
ANSWERS: list[Json] = [
    {},
    {"content": None},
    {"content": ""},
    {"content": []},
    {"content": 5},
    {"reasoning_content": "hm"},
    {"reasoning_content": "hm", "content": None},
    {"reasoning_content": "hm", "content": ""},
    {"reasoning_content": None, "content": "a"},
    {"content": "a", "name": 5},
    {"tool_calls": []},
    {"tool_calls": None},
    {"tool_calls": [CALL]},
    {"tool_calls": [CALL], "content": None},
    *({"tool_calls": [without(name, CALL)]} for name in ("id", "type", "function")),
    *(
        {"tool_calls": [{**CALL, "function": given}]}
        for given in ({"name": "f"}, {"arguments": "{}"})
    ),
    *(
        {"tool_calls": [called(arguments)]}
        for arguments in (
            *("", " ", "{", '{"a"', "NaN", '{"a": 1e999}', '{"a": "\\ud800"}', '{"a": "\\ufffd"}'),
            *("[1]", "5", "null", '{"a": 1, "a": 2}', '\ufeff{"a": 1}', ' {"a": 1}\n'),
            *({"a": 1}, None),
        )
    ),
]
HISTORIES: list[list[Json]] = [
    *([{"role": "assistant", **answer}] for answer in ANSWERS),
    *(
        [{"role": "assistant", "tool_calls": [CALL]}, result]
        for result in (
            TOOL_RESULT,
            *({**TOOL_RESULT, "content": content} for content in CONTENTS),
            {**TOOL_RESULT, "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            without("tool_call_id", {**TOOL_RESULT, "content": "5"}),
        )
    ),
    [{"role": "user"}],
    [{"role": "system", "content": None}],
]


@pytest.mark.parametrize("history", HISTORIES, ids=range(len(HISTORIES)))
def test_earlier_turns_are_accepted_alike(
    llama: SimulatedLlama, real: RealLlama, history: list[Json]
) -> None:
    body = {"messages": [*hello(), *history, *hello()], "max_tokens": 1}
    for path in (CHAT, f"{CHAT}/input_tokens"):
        simulated, genuine = (post(server.url, path, **body) for server in (llama, real))
        assert simulated[0] == genuine[0]
        if genuine[0] != 200:
            assert simulated[1]["error"]["type"] == genuine[1]["error"]["type"]


@pytest.mark.parametrize(
    "fields",
    [
        {"logprobs": True},
        *({"logprobs": True, "top_logprobs": count} for count in (0, 1, 3)),
        {"logprobs": False},
        *({"logprobs": logprobs, "top_logprobs": 0} for logprobs in (False, None)),
        {"top_logprobs": 2},
        {"logprobs": True, "tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
    ids=str,
)
def test_alternatives_of_logprobs(
    llama: SimulatedLlama, real: RealLlama, fields: dict[str, Any]
) -> None:
    def counts(url: str, *, streamed: bool) -> tuple[int, list[int]]:
        body = {"messages": hello(), "max_tokens": 3, "ignore_eos": True, **fields}
        status, _, data = call(url, "POST", CHAT, {**body, "stream": streamed})
        return status, [text.count('"bytes"') for text in data.decode().split('"top_logprobs"')[1:]]

    for streamed in (True, False):
        assert counts(llama.url, streamed=streamed) == counts(real.url, streamed=streamed)


WRONG: list[Any] = [
    b"{bad",
    b"",
    {},
    {"messages": 5},
    {"messages": [{"content": "a"}]},
    {"messages": hello(), "max_tokens": "x"},
    {"messages": hello(), "max_tokens": -2},
    {"messages": hello(), "n": 3},
    {"messages": hello(), "response_format": {"type": "foo"}},
    {"messages": hello(), "tools": [{"type": "function"}]},
    {"messages": hello("hello world " * 5000), "stream": True},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}]},
    {"messages": [{"role": "assistant", "refusal": "no"}, *hello()]},
    {"messages": hello(), "repeat_last_n": -1},
    {"messages": hello(), "dry_penalty_last_n": -1},
    {"messages": hello(), "dry_sequence_breakers": []},
    {"messages": hello(), "repeat_penalty": 0},
]


@pytest.mark.parametrize("body", WRONG, ids=range(len(WRONG)))
def test_errors_are_the_same(llama: SimulatedLlama, real: RealLlama, body: Any) -> None:
    simulated, genuine = (call(server.url, "POST", CHAT, body) for server in (llama, real))
    assert (simulated[0], simulated[1]) == (
        genuine[0],
        genuine[1] | {"content-length": simulated[1]["content-length"]},
    )
    mine, theirs = json.loads(simulated[2])["error"], json.loads(genuine[2])["error"]
    assert shape(mine) == shape(theirs)
    assert (mine["code"], mine["type"]) == (theirs["code"], theirs["type"])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None),
        ("GET", "/v1/health", None),
        ("GET", "/v1/models", None),
        ("GET", "/v1/models/sim-model", None),
        ("GET", "/nothing", None),
        ("GET", CHAT, None),
        ("DELETE", "/v1/models", None),
        ("POST", f"{CHAT}/input_tokens", {"messages": hello()}),
        ("POST", "/v1/responses/input_tokens", {"input": "hello"}),
        ("POST", "/v1/messages/count_tokens", {"messages": hello(), "max_tokens": 5}),
        ("POST", "/apply-template", {"messages": hello()}),
        ("POST", "/tokenize", {"content": "hello world"}),
        ("POST", "/tokenize", {"content": ["hello", "world"], "add_special": True}),
        ("POST", "/v1/embeddings", {"input": "hello"}),
        ("POST", "/v1/completions", {"prompt": "hello", "max_tokens": 3}),
    ],
)
def test_small_routes_answer_alike(
    llama: SimulatedLlama, real: RealLlama, method: str, path: str, body: Any
) -> None:
    simulated, genuine = (call(server.url, method, path, body) for server in (llama, real))
    assert (simulated[0], set(simulated[1])) == (genuine[0], set(genuine[1]))
    assert shape(json.loads(simulated[2])) == shape(json.loads(genuine[2]))


@pytest.mark.parametrize(
    "fields", [{}, {"logprobs": 2}, {"logprobs": 0}], ids=["plain", "logprobs", "none"]
)
def test_text_completions_have_the_same_events(
    llama: SimulatedLlama, real: RealLlama, fields: dict[str, Any]
) -> None:
    body = {"prompt": "hello", "max_tokens": 3, "ignore_eos": True, **ASK_FOR_ALL, **fields}
    found = kinds(stream(llama.url, "/v1/completions", **body))
    assert found == kinds(stream(real.url, "/v1/completions", **body))


def test_of_several_texts_only_the_first_ones_beginning_is_marked(
    llama: SimulatedLlama, real: RealLlama
) -> None:
    for server in (llama, real):
        lengths = [
            len(post(server.url, "/tokenize", content=content, add_special=marked)[1]["tokens"])
            for content in ("", ["hello", "world"])
            for marked in (True, False)
        ]
        assert lengths[0] - lengths[1] == lengths[2] - lengths[3] == 1


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URLs of a simulated and a real embeddings server."""
    simulated = SimulatedLlama(tmp_path_factory.mktemp("embeddings"), embeddings=True).start()
    genuine = RealLlama(
        tmp_path_factory.mktemp("real-embeddings"),
        alias="sim-model",
        arguments=("--embeddings", "--pooling", "mean"),
    )
    genuine.start()
    yield simulated.url, genuine.url
    genuine.stop()
    simulated.stop()


@pytest.mark.parametrize(
    "body",
    [
        {"input": "hello"},
        {"input": ["hello", "hello world"]},
        {"input": ["hello", "hello world"], "encoding_format": "base64"},
        {"input": ["hello", "hello world " * 1000]},
        {"input": "hello", "dimensions": 8},
        {"input": 5},
    ],
    ids=["one", "two", "base64", "too large", "dimensions", "wrong"],
)
def test_embeddings_are_the_same(embedders: tuple[str, str], body: dict[str, Any]) -> None:
    simulated, genuine = (call(url, "POST", "/v1/embeddings", body) for url in embedders)
    assert (simulated[0], set(simulated[1])) == (genuine[0], set(genuine[1]))
    mine, theirs = json.loads(simulated[2]), json.loads(genuine[2])
    assert shape(mine) == shape(theirs)
    if "error" in mine and body["input"] != 5:
        messages = [re.sub(r"\d+", "N", each["error"]["message"]) for each in (mine, theirs)]
        assert messages[0] == messages[1]


def test_a_server_for_embeddings_generates_as_well(embedders: tuple[str, str]) -> None:
    for url in embedders:
        assert post(url, "/v1/completions", prompt="hello", max_tokens=2)[0] == 200


def test_stream_headers_are_the_same(llama: SimulatedLlama, real: RealLlama) -> None:
    body = {"messages": hello(), "max_tokens": 1, "stream": True}
    assert call(llama.url, "POST", CHAT, body)[1] == call(real.url, "POST", CHAT, body)[1]


def test_streamed_answers_end_connections_that_whole_ones_keep(
    llama: SimulatedLlama, real: RealLlama, embedders: tuple[str, str]
) -> None:
    for url in (llama.url, real.url):
        assert not is_kept(url, messages=hello(), max_tokens=2, stream=True)
        assert is_kept(url, messages=hello(), max_tokens=2)
    for url in embedders:
        assert is_kept(url, "/v1/embeddings", input="hello")


def test_a_client_that_asks_to_close_gets_the_header(
    llama: SimulatedLlama, real: RealLlama
) -> None:
    asked = {"Connection": "close"}
    for path, body in (("/health", None), (CHAT, {"messages": hello(), "stream": True})):
        method = "POST" if body else "GET"
        found = call(llama.url, method, path, body, asked)[1]
        assert found == call(real.url, method, path, body, asked)[1]


def test_wrong_keys_get_the_same_answer(real: RealLlama, tmp_path_factory: Any) -> None:
    keyed = RealLlama(tmp_path_factory.mktemp("keyed"), api_key="one,two")
    simulated = SimulatedLlama(api_key="one,two")
    keyed.start()
    simulated.start()
    try:
        for headers in ({}, {"Authorization": "Bearer three"}, {"Authorization": "bearer one"}):
            found = call(simulated.url, "GET", "/v1/models", None, headers)
            assert found == call(keyed.url, "GET", "/v1/models", None, headers)
            assert found[0] == 401
        for headers in ({"Authorization": "Bearer two"}, {"X-Api-Key": "one"}):
            for server in (keyed, simulated):
                assert call(server.url, "GET", "/v1/models", None, headers)[0] == 200
        assert call(simulated.url, "GET", "/health")[0] == 200
    finally:
        keyed.stop()
        simulated.stop()
