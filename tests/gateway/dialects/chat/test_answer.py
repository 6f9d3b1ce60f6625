"""Chat streams assembled into one object."""

import itertools
from typing import Any

import orjson
import pytest

from promptly.gateway.chunks import ChunkReader
from promptly.gateway.dialects.chat.answer import ChatAnswer, ChatStream
from tests.gateway.recordings import NAMES, counts, events, recording


def built(data: bytes) -> dict[str, Any]:
    builder = ChatAnswer()
    reader = ChunkReader(include_usage=True, sink=builder.add)
    assert reader.read(data) == b""
    return builder.build()


def deltas(name: str, field: str) -> list[Any]:
    chunks = [event for event in events(recording(name)) if event != "[DONE]" and event["choices"]]
    found = [chunk["choices"][0]["delta"].get(field) for chunk in chunks]
    return [item for item in found if item]


def stream(*choices: dict[str, Any], usage: dict[str, Any] | None = None) -> bytes:
    chunks: list[dict[str, Any]] = [
        {"id": "1", "created": 2, "model": "m", "choices": [{"index": 0, **choice}]}
        for choice in choices
    ]
    if usage:
        chunks.append({"choices": [], "usage": usage})
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"no_usage"}))
def test_recorded_streams(name: str) -> None:
    answer = built(recording(name))
    first = next(event for event in events(recording(name)) if "prompt_progress" not in event)
    assert answer["object"] == "chat.completion"
    for field in ("id", "created", "model", "system_fingerprint"):
        assert answer[field] == first[field]
    assert "timings" not in answer
    prompt, completion = counts(name)
    assert answer["usage"]["prompt_tokens"] == prompt
    assert answer["usage"]["completion_tokens"] == completion
    assert answer["usage"]["total_tokens"] == prompt + completion
    [choice] = answer["choices"]
    assert choice["finish_reason"] in ("stop", "length", "tool_calls")
    assert choice["message"]["role"] == "assistant"
    assert (choice["message"]["content"] or "") == "".join(deltas(name, "content"))
    thoughts = "".join(deltas(name, "reasoning_content"))
    assert choice["message"].get("reasoning_content", "") == thoughts


def test_thoughts_are_kept_apart_and_absent_without_any() -> None:
    assert built(recording("thoughts"))["choices"][0]["message"]["reasoning_content"]
    assert "reasoning_content" not in built(recording("plain"))["choices"][0]["message"]


def test_tool_calls_are_put_together_by_index() -> None:
    message = built(recording("tool_call"))["choices"][0]["message"]
    heads = list(itertools.chain.from_iterable(deltas("tool_call", "tool_calls")))
    expected = [head for head in heads if "id" in head]
    assert [call["id"] for call in message["tool_calls"]] == [head["id"] for head in expected]
    for index, call in enumerate(message["tool_calls"]):
        parts = [head["function"] for head in heads if head["index"] == index]
        assert call["type"] == "function"
        assert call["function"]["name"] == "get_weather"
        assert call["function"]["arguments"] == "".join(part["arguments"] for part in parts)
        assert "index" not in call


def test_a_tool_call_without_text_has_null_content() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    answer = built(
        stream({"delta": {"role": "assistant", "content": None}}, {"delta": {"tool_calls": [call]}})
    )
    assert answer["choices"][0]["message"]["content"] is None
    assert answer["choices"][0]["message"]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


def test_interleaved_tool_calls() -> None:
    def part(index: int, arguments: str, **head: Any) -> dict[str, Any]:
        function = {"arguments": arguments, **({"name": head.pop("name")} if head else {})}
        return {"delta": {"tool_calls": [{"index": index, "function": function, **head}]}}

    answer = built(
        stream(
            part(1, "[", name="g", id="b"),
            part(0, "{", name="f", id="a"),
            part(1, "]"),
            part(0, "}"),
        )
    )
    calls = answer["choices"][0]["message"]["tool_calls"]
    found = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls]
    assert found == [("a", "f", "{}"), ("b", "g", "[]")]


def test_logprobs_are_joined() -> None:
    answer = built(recording("logprobs"))
    entries = answer["choices"][0]["logprobs"]["content"]
    assert (
        "".join(entry["token"] for entry in entries) == answer["choices"][0]["message"]["content"]
    )
    assert all(len(entry["top_logprobs"]) == 2 for entry in entries)
    assert built(recording("plain"))["choices"][0]["logprobs"] is None


def test_logprobs_without_alternatives() -> None:
    builder = ChatAnswer(without_alternatives=True)
    ChunkReader(include_usage=True, sink=builder.add).read(recording("logprobs"))
    [choice] = builder.build()["choices"]
    [full] = built(recording("logprobs"))["choices"]
    bare = [{**entry, "top_logprobs": []} for entry in full["logprobs"]["content"]]
    assert choice == {**full, "logprobs": {"content": bare}}


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_stream_of_logprobs_without_alternatives(include_usage: bool) -> None:
    def streamed(stream: ChatStream) -> list[Any]:
        reader = ChunkReader(include_usage=include_usage, sink=stream.sink)
        return events(reader.read(recording("logprobs")))

    found = streamed(ChatStream(include_usage=include_usage, without_alternatives=True))
    expected = streamed(ChatStream())
    for event in expected:
        for choice in event["choices"]:
            for entry in (choice.get("logprobs") or {}).get("content", []):
                entry["top_logprobs"] = []
    assert found == expected


def test_comments_and_the_end_are_passed_over() -> None:
    last = {"delta": {"content": "b"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    data = b": keep-alive\n\n" + stream({"delta": {"role": "assistant", "content": "a"}}, last)
    answer = built(data + stream(usage=usage) + b"data: [DONE]\n\n")
    assert answer["choices"][0]["message"]["content"] == "ab"
    assert answer["usage"] == usage | {"prompt_tokens_details": {"cached_tokens": 0}}
