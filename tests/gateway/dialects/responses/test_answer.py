"""Responses in both forms, from a real server's recordings and from synthetic streams."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptly.errors import (
    ContextLengthExceeded,
    PromptlyError,
    QueueFull,
    RateLimited,
    UpstreamError,
    UpstreamTimeout,
)
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.dialects.responses.stream import ResponsesStream
from promptly.gateway.sse import EventBuffer
from tests.gateway.dialects.responses.answering import (
    REQUEST_ID,
    ROLE,
    chunk,
    echo,
    last,
    say,
    streamed,
    think,
    timeless,
    whole,
)
from tests.gateway.dialects.responses.sdk import (
    check_response,
    check_sequence,
    parse,
    text_of,
    thoughts_of,
)
from tests.gateway.recordings import NAMES, counts, events, recording

Json = dict[str, Any]

Splits = st.lists(st.integers(0, 30_000), max_size=40)


def deltas(name: str, field: str) -> str:
    chunks = [event for event in events(recording(name)) if event != "[DONE]" and event["choices"]]
    return "".join(chunk["choices"][0]["delta"].get(field) or "" for chunk in chunks)


TEXT_RECORDINGS = sorted(set(NAMES) - {"tool_call"})


@pytest.mark.parametrize("name", TEXT_RECORDINGS)
def test_recorded_streams(name: str) -> None:
    response = last(streamed(recording(name)))
    assert response["id"] == f"resp_{REQUEST_ID.hex}"
    assert response["created_at"] == 0x0193A1B2C3D4 // 1000
    assert response["model"] == "tiny"
    assert text_of(response) == deltas(name, "content")
    assert thoughts_of(response) == deltas(name, "reasoning_content")
    prompt, completion = counts(name)
    usage = response["usage"]
    assert usage["input_tokens"] == prompt
    assert usage["output_tokens"] == completion
    assert usage["total_tokens"] == prompt + completion
    # Each recording was cut by a token limit.
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in response["output"]][-1] == "incomplete"


@given(name=st.sampled_from(NAMES), cuts=Splits)
def test_any_split_gives_the_same_events_and_the_same_response(name: str, cuts: list[int]) -> None:
    data = recording(name)
    buffer = EventBuffer()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    fed = [buffer.feed(data[a:b]) for a, b in itertools.pairwise(places)]
    *found, ending = parse(streamed(*[block for block in fed if block]))
    *expected, other = parse(streamed(data))
    assert found == expected
    final = check_sequence([*found, ending])
    assert timeless(final) == timeless(other["response"]) == timeless(whole(data))


@given(name=st.sampled_from(NAMES), limit=st.integers(1, 30))
def test_a_balance_that_ends_anywhere_makes_a_valid_incomplete_response(
    name: str, limit: int
) -> None:
    data = recording(name)
    _, completion = counts(name)
    response = last(streamed(data, limit=limit))
    if limit < completion:
        assert response["status"] == "incomplete"
        assert limit <= response["usage"]["output_tokens"] <= completion
        cached = events(data)[-2]["timings"]["cache_n"]
        assert response["usage"]["input_tokens_details"]["cached_tokens"] == cached


@given(name=st.sampled_from(NAMES), count=st.integers(0, 60))
def test_a_failure_at_any_event_makes_a_valid_failed_response(name: str, count: int) -> None:
    data = b"".join(part + b"\n\n" for part in recording(name).split(b"\n\n")[:count] if part)
    response = last(streamed(data, problem=UpstreamError()))
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": UpstreamError.message}
    assert all(item["status"] in ("completed", "incomplete") for item in response["output"])


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (UpstreamError(), "server_error"),
        (UpstreamTimeout(), "server_error"),
        (QueueFull(), "server_error"),
        (RateLimited("slow"), "rate_limit_exceeded"),
        (ContextLengthExceeded("long", param="messages"), "invalid_prompt"),
    ],
)
def test_a_failure_before_the_first_chunk(problem: PromptlyError, code: str) -> None:
    response = last(streamed(problem=problem))
    assert response["error"] == {"code": code, "message": problem.message}
    assert (response["output"], response["usage"]) == ([], None)
    assert response["model"] == "loaded"


def test_the_thoughts_end_before_the_message_begins() -> None:
    data = ROLE + think("hm", 1) + think(" so", 2) + say("yes", 4) + chunk({}, "stop", predicted=5)
    names = [event["type"].removeprefix("response.") for event in parse(streamed(data))]
    assert names == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    response = last(streamed(data))
    assert [item["id"] for item in response["output"]] == [
        f"rs_{REQUEST_ID.hex}_0",
        f"msg_{REQUEST_ID.hex}_1",
    ]
    assert [item["status"] for item in response["output"]] == ["completed", "completed"]
    assert response["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 5,
        # The count at the last reasoning chunk; the tokens that close the reasoning show no text.
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 10,
    }
    assert response["completed_at"] >= response["created_at"]


def test_thoughts_that_come_back_are_items_of_their_own() -> None:
    data = ROLE + think("a", 1) + say("b", 2) + think("c", 3) + say("d", 4) + chunk({}, "stop")
    response = last(streamed(data))
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"] * 2
    assert (text_of(response), thoughts_of(response)) == ("bd", "ac")
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == 3
    assert timeless(whole(data)) == timeless(response)


@pytest.mark.parametrize(
    ("data", "status", "kinds"),
    [
        (ROLE + chunk({}, "stop", predicted=1), "completed", ["message"]),
        (ROLE + chunk({}, "length", predicted=1), "incomplete", ["message"]),
        (ROLE + think("a", 1) + chunk({}, "length"), "incomplete", ["reasoning"]),
        (ROLE + think("a", 1) + chunk({}, "stop"), "completed", ["reasoning", "message"]),
        (chunk({"content": ""}, "stop"), "completed", ["message"]),
    ],
    ids=["an end at once", "a limit at once", "a limit in thoughts", "thoughts alone", "nothing"],
)
def test_answers_without_any_text(data: bytes, status: str, kinds: list[str]) -> None:
    response = last(streamed(data))
    assert timeless(whole(data)) == timeless(response)
    assert response["status"] == status
    assert [item["type"] for item in response["output"]] == kinds
    assert response["output"][-1]["status"] == status
    assert check_response(response).output_text == ""


def test_text_that_json_has_to_escape() -> None:
    text = '"\\\n\t\x00 </script> 🌍 data: x\n\nevent: y \u2028'
    data = ROLE + say(text, 1) + say("%d %b {}", 2) + chunk({}, "stop")
    assert text_of(last(streamed(data))) == text + "%d %b {}"


def test_logprobs_are_in_the_deltas_and_at_the_end() -> None:
    data = recording("logprobs")
    response = last(streamed(data, top_logprobs=2))
    [item] = response["output"]
    entries = item["content"][0]["logprobs"]
    assert len(entries) == counts("logprobs")[1]
    assert "".join(entry["token"] for entry in entries) == text_of(response)
    for entry in entries:
        assert set(entry) == {"token", "bytes", "logprob", "top_logprobs"}
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert [set(top) for top in entry["top_logprobs"]] == [{"token", "bytes", "logprob"}] * 2
    assert whole(data, top_logprobs=2)["output"] == response["output"]


def test_logprobs_of_thoughts_are_left_out() -> None:
    logprobs = {"content": [{"token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": []}]}
    data = ROLE + chunk({"reasoning_content": "a"}, logprobs=logprobs) + chunk(logprobs=logprobs)
    response = last(streamed(data + say("b", 2, logprobs=logprobs) + chunk({}, "stop")))
    assert len(response["output"][1]["content"][0]["logprobs"]) == 1
    assert "logprobs" not in response["output"][0]["content"][0]


def test_the_response_repeats_the_request() -> None:
    fields: Json = {"instructions": "be brief", "metadata": {"a": "b"}, "temperature": 0.5}
    data = ROLE + say("a", 1) + chunk({}, "stop")
    for response in (whole(data, **fields), last(streamed(data, **fields))):
        assert {name: response[name] for name in fields} == fields


def test_counts_alone_leave_the_events_as_they_are() -> None:
    answer = ResponsesStream(REQUEST_ID, "loaded", echo())
    reader = ChunkReader(include_usage=True, sink=answer.sink)
    out = reader.read(ROLE + say("a", 1) + say("b", 2))
    reader.counts_only = True
    assert reader.read(say("c", 3) + think("d", 4) + chunk({}, "stop", predicted=5)) == b""
    response = last(out + answer.failed(UpstreamTimeout()))
    assert text_of(response) == "ab"
    # Tokens generated but not sent are charged, so the usage includes them.
    assert response["usage"]["output_tokens"] == reader.completion_tokens == 5


def test_counts_alone_do_not_begin_a_stream() -> None:
    answer = ResponsesStream(REQUEST_ID, "loaded", echo())
    reader = ChunkReader(include_usage=True, sink=answer.sink)
    reader.counts_only = True
    assert reader.read(ROLE + say("a", 1)) == b""
    assert last(answer.failed(UpstreamTimeout()))["output"] == []


@pytest.mark.parametrize(
    "garbage",
    [b"data: {\n\n", b'data: {"choices":5}\n\n', b'data: {"choices":[{"delta":[1]}]}\n\n'],
)
def test_events_before_garbage_are_sent(garbage: bytes) -> None:
    answer = ResponsesStream(REQUEST_ID, "loaded", echo())
    reader = ChunkReader(include_usage=True, sink=answer.sink)
    out = reader.read(ROLE + say("a", 1) + garbage + say("b", 2))
    assert reader.error is not None
    assert text_of(last(out + answer.failed(UpstreamError()))) == "a"
