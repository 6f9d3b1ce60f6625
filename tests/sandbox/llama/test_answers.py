"""Answers of the simulated model, and consistency of its token counts."""

import json

import pytest
from openai import OpenAI

from sandbox.llama import SimulatedLlama
from tests.sandbox.llama.wire import CHAT, WEATHER, Json, call, content, hello, post, sim, stream

COUNTED: Json = {"stream_options": {"include_usage": True}, "timings_per_token": True}


def test_the_count_asked_for_is_the_count_reported(llama: SimulatedLlama) -> None:
    body: Json = {
        "messages": [{"role": "system", "content": "日本語"}, *hello()],
        "tools": [WEATHER],
    }
    _, counted = post(llama.url, f"{CHAT}/input_tokens", **body)
    _, answered = post(llama.url, **body)
    assert counted["input_tokens"] == answered["usage"]["prompt_tokens"]


def test_an_answer_has_the_length_asked_for_and_ends_by_itself(llama: SimulatedLlama) -> None:
    _, answer = post(llama.url, messages=sim("tokens=50"))
    assert answer["usage"]["completion_tokens"] == 50
    assert answer["choices"][0]["finish_reason"] == "stop"
    _, cut = post(llama.url, messages=sim("tokens=50"), max_tokens=20)
    assert cut["usage"]["completion_tokens"] == 20
    assert cut["choices"][0]["finish_reason"] == "length"


def test_the_same_prompt_gets_the_same_answer_streamed_or_not(llama: SimulatedLlama) -> None:
    _, whole = post(llama.url, messages=sim("tokens=60"))
    streamed = content(stream(llama.url, messages=sim("tokens=60")))
    assert streamed == whole["choices"][0]["message"]["content"]
    assert any(ord(character) > 127 for character in streamed)


def test_some_tokens_are_counted_and_not_shown(llama: SimulatedLlama) -> None:
    events = stream(llama.url, messages=sim("tokens=60"), **COUNTED)
    deltas = [event for event in events[1:-3] if event["choices"][0]["delta"]]
    counts = [event["timings"]["predicted_n"] for event in deltas]
    assert counts == sorted(set(counts))
    assert len(counts) < counts[-1]
    assert events[-2]["usage"]["completion_tokens"] == 60


def test_structured_answers_satisfy_their_schema(llama: SimulatedLlama) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"$ref": "#/$defs/name"},
            "ages": {"type": "array", "items": {"type": "integer", "minimum": 3}, "minItems": 2},
            "kind": {"anyOf": [{"const": "cat"}, {"type": "null"}]},
        },
        "$defs": {"name": {"type": "string", "minLength": 8}},
    }
    form = {"type": "json_schema", "json_schema": {"name": "pet", "schema": schema}}
    text = content(stream(llama.url, messages=hello(), response_format=form))
    value = json.loads(text)
    assert len(value["name"]) >= 8
    assert value["ages"] == [3, 3]
    assert value["kind"] == "cat"
    form = {"type": "json_object"}
    assert json.loads(content(stream(llama.url, messages=hello(), response_format=form)))


def test_the_openai_client_reads_tools_thoughts_and_logprobs(llama: SimulatedLlama) -> None:
    with OpenAI(base_url=f"{llama.url}/v1", api_key="x") as client:
        with client.chat.completions.stream(
            model="any",
            messages=[{"role": "user", "content": "weather? [[sim tool=2 think=4]]"}],
            tools=[WEATHER],
        ) as running:
            message = running.get_final_completion().choices[0].message
        calls = message.tool_calls or []
        assert [tool.function.name for tool in calls] == ["get_weather"] * 2
        assert json.loads(calls[1].function.arguments) == {"city": "Paris"}
        answer = client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "hello"}],
            logprobs=True,
            top_logprobs=2,
            max_tokens=4,
            extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert "".join(entry.token for entry in logprobs.content or []) == (
        answer.choices[0].message.content
    )


def test_embeddings_are_served_when_asked_for() -> None:
    server = SimulatedLlama(embeddings=True).start()
    try:
        status, answer = post(server.url, "/v1/embeddings", input=["a", "b"])
        assert status == 200
        assert [entry["index"] for entry in answer["data"]] == [0, 1]
        assert answer["usage"]["prompt_tokens"] == 4
    finally:
        server.stop()


@pytest.mark.parametrize("size", [1_000_000, 10_000_000])
def test_large_bodies_are_counted(size: int) -> None:
    server = SimulatedLlama(ctx=10_000_000).start()
    try:
        status, answer = post(server.url, messages=hello("x" * size), max_tokens=1)
        assert status == 200
        assert answer["usage"]["prompt_tokens"] > size // 4
    finally:
        server.stop()


def test_chunked_bodies_and_expectations_are_understood(llama: SimulatedLlama) -> None:
    body = json.dumps({"content": "hello"}).encode()
    status, _, data = call(llama.url, "POST", "/tokenize", body, {"Expect": "100-continue"})
    assert (status, len(json.loads(data)["tokens"])) == (200, 2)
