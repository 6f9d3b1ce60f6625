"""Relaying of upstream's chunks to the client, from a real server's recordings."""

import itertools
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptly.gateway import sse
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.collected_deltas import MOST_BYTES
from promptly.gateway.dialects import Sink
from promptly.gateway.dialects.chat.answer import ChatAnswer
from promptly.gateway.sse import EventBuffer
from tests.gateway.recordings import NAMES, counts, events, recording

Splits = st.lists(st.integers(0, 30_000), max_size=40)


def blocks(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return whole events, grouped by the cuts of the byte stream."""
    buffer = EventBuffer()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    fed = [buffer.feed(data[a:b]) for a, b in itertools.pairwise(places)]
    return [block for block in fed if block]


def one_by_one(data: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in data.split(b"\n\n") if event]


def expected(name: str, *, include_usage: bool) -> list[Any]:
    """Return the events that a client may see, by a straightforward reference implementation."""
    seen: list[Any] = []
    for event in events(recording(name)):
        if event == "[DONE]" or "prompt_progress" in event:
            continue
        if not event["choices"] and not include_usage:
            continue
        event.pop("timings", None)
        if not seen:
            delta = event["choices"][0]["delta"]
            start = {"role": "assistant", "content": ""}
            if "role" in delta:
                assert delta == {**start, "content": None}
                delta.update(start)
            else:
                seen.append({**event, "choices": [{**event["choices"][0], "delta": start}]})
        seen.append(event)
    return seen


@pytest.mark.parametrize("include_usage", [True, False])
@given(name=st.sampled_from(NAMES), cuts=Splits)
def test_any_split_gives_the_same_output_and_counts(
    include_usage: bool, name: str, cuts: list[int]
) -> None:
    reader = ChunkReader(include_usage=include_usage)
    out = b"".join(reader.read(block) for block in blocks(recording(name), cuts))
    assert events(out) == expected(name, include_usage=include_usage)
    for private in (b'"timings"', b'"prompt_progress"', b"[DONE]"):
        assert private not in out
    assert (reader.prompt_tokens, reader.completion_tokens) == counts(name)
    assert reader.prompt_size == reader.prompt_tokens
    assert reader.done
    assert reader.error is None
    assert reader.finish_reason in ("length", "stop", "tool_calls")
    assert reader.first_token_at is not None


@given(name=st.sampled_from(NAMES), cuts=Splits)
def test_counts_only_grow_and_never_lag_behind_the_output(name: str, cuts: list[int]) -> None:
    reader = ChunkReader(include_usage=False)
    before = 0
    for block in blocks(recording(name), cuts):
        reader.read(block)
        timed = [event for event in events(block) if "timings" in event]
        assert reader.completion_tokens >= before
        before = reader.completion_tokens
        if timed:
            assert reader.completion_tokens == timed[-1]["timings"]["predicted_n"]
        if before:
            assert reader.first_token_at is not None


@given(
    name=st.sampled_from(NAMES),
    cuts=Splits,
    limits=st.lists(st.integers(1, 320), min_size=1, max_size=8, unique=True),
)
def test_reading_stops_at_each_limit_and_goes_on_without_loss(
    name: str, cuts: list[int], limits: list[int]
) -> None:
    reader = ChunkReader(include_usage=True)
    ahead = sorted(limits)
    reader.limit = ahead.pop(0)
    out = []
    for block in blocks(recording(name), cuts):
        out.append(reader.read(block))
        while reader.limit_reached:
            assert reader.limit is not None
            assert reader.completion_tokens >= reader.limit
            # Nothing after the event that reached the limit is sent.
            sent = events(b"".join(out))
            assert sent[-1]["choices"][0]["finish_reason"] is None
            higher = [limit for limit in ahead if limit > reader.completion_tokens]
            ahead = higher[1:]
            out.append(reader.resume(higher[0] if higher else None))
    assert events(b"".join(out)) == expected(name, include_usage=True)
    assert (reader.prompt_tokens, reader.completion_tokens) == counts(name)
    assert reader.done


@given(
    name=st.sampled_from(NAMES),
    cuts=Splits,
    limit=st.none() | st.integers(1, 320),
)
def test_a_collected_answer_is_the_one_that_is_read_chunk_by_chunk(
    name: str, cuts: list[int], limit: int | None
) -> None:
    answers = ChatAnswer(), ChatAnswer()
    collected = ChunkReader(include_usage=True, sink=answers[0].add, collects=True)
    readers = collected, ChunkReader(include_usage=True, sink=answers[1].add)
    for reader in readers:
        reader.limit = limit
        for block in blocks(recording(name), cuts):
            assert reader.read(block) == b""
            if reader.limit_reached:
                assert reader.closing_chunks() == b""
                break
    assert answers[0].build() == answers[1].build()
    for field in ("prompt_tokens", "completion_tokens", "limit_reached", "done", "usage", "error"):
        assert getattr(readers[0], field) == getattr(readers[1], field)


@pytest.mark.parametrize("limit", [1, 5, 23])
def test_a_limit_ends_the_stream_as_upstream_would(limit: int) -> None:
    reader = ChunkReader(include_usage=True)
    reader.limit = limit
    out = reader.read(recording("plain"))
    assert reader.limit_reached
    assert reader.completion_tokens == limit
    assert not reader.done
    *_, finish, usage = events(out + reader.closing_chunks())
    assert finish["choices"] == [{"finish_reason": "length", "index": 0, "delta": {}}]
    whole = expected("plain", include_usage=True)
    assert set(finish) == set(whole[-2])
    assert finish["id"] == whole[-2]["id"]
    assert usage["choices"] == []
    prompt, _ = counts("plain")
    assert usage["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": limit,
        "total_tokens": prompt + limit,
        "prompt_tokens_details": {"cached_tokens": reader.cached_tokens},
    }
    assert reader.finish_reason == "length"


def test_a_limit_without_requested_usage() -> None:
    reader = ChunkReader(include_usage=False)
    reader.limit = 5
    reader.read(recording("plain"))
    assert len(events(reader.closing_chunks())) == 1


def test_an_answer_that_just_fits_its_limit_ends_by_itself() -> None:
    reader = ChunkReader(include_usage=False)
    reader.limit = counts("plain")[1] + 1
    reader.read(recording("plain"))
    assert reader.done
    assert not reader.limit_reached


def test_the_role_is_made_when_upstream_leaves_it_out() -> None:
    reader = ChunkReader(include_usage=False)
    first, second, *_ = events(reader.read(recording("utf8_first")))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "role" not in second["choices"][0]["delta"]
    assert first["id"] == second["id"]
    assert first["object"] == "chat.completion.chunk"


def test_progress_reports_the_prompt_before_the_first_token() -> None:
    reader = ChunkReader(include_usage=False)
    start, end = one_by_one(recording("plain"))[:2]
    assert reader.read(start) == b""
    prompt, _ = counts("plain")
    assert (reader.prompt_size, reader.prompt_tokens) == (prompt, 0)
    assert reader.read(end) == b""
    assert (reader.prompt_size, reader.prompt_tokens) == (prompt, prompt)
    assert reader.completion_tokens == 0
    assert reader.first_token_at is None


PROGRESS = {"prompt_progress": {"total": 90, "cache": 60, "processed": 70, "time_ms": 1}}
TIMED = {
    "choices": [{"finish_reason": None, "index": 0, "delta": {"content": "a"}}],
    "timings": {"cache_n": 64, "prompt_n": 26, "predicted_n": 1},
}
USAGE = {"prompt_tokens": 90, "completion_tokens": 1, "total_tokens": 91}


def read_one(reader: ChunkReader, chunk: dict[str, Any]) -> bytes:
    return reader.read(sse.event(orjson.dumps(chunk)))


def test_each_report_says_how_much_of_the_prompt_was_cached() -> None:
    reader = ChunkReader(include_usage=True)
    read_one(reader, PROGRESS)
    assert reader.cached_tokens == 60
    read_one(reader, TIMED)
    assert reader.cached_tokens == 64
    details = {"cached_tokens": 65}
    [seen] = events(
        read_one(reader, {"choices": [], "usage": {**USAGE, "prompt_tokens_details": details}})
    )
    assert reader.cached_tokens == seen["usage"]["prompt_tokens_details"]["cached_tokens"] == 65


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}, {"cached_tokens": -1}])
def test_usage_without_cached_tokens_gets_those_reported_before(details: Any) -> None:
    reader = ChunkReader(include_usage=True)
    read_one(reader, TIMED)
    usage = {**USAGE, "prompt_tokens_details": details}
    [seen] = events(read_one(reader, {"choices": [], "usage": usage}))
    assert seen["usage"] == {**USAGE, "prompt_tokens_details": {"cached_tokens": 64}}
    assert reader.cached_tokens == 64


def test_cached_tokens_are_at_most_the_prompt() -> None:
    reader = ChunkReader(include_usage=True)
    read_one(reader, {"prompt_progress": {"total": 9, "cache": 60, "processed": 7}})
    assert (reader.prompt_tokens, reader.cached_tokens) == (7, 7)
    read_one(reader, {**TIMED, "timings": {"cache_n": 64, "prompt_n": 0, "predicted_n": 1}})
    assert (reader.prompt_tokens, reader.cached_tokens) == (9, 9)
    usage = {**USAGE, "prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 80}}
    [seen] = events(read_one(reader, {"choices": [], "usage": usage}))
    assert seen["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}
    assert (reader.prompt_tokens, reader.cached_tokens) == (5, 5)


def test_an_error_in_the_stream_is_kept_from_the_client() -> None:
    reader = ChunkReader(include_usage=True)
    data = b"".join(one_by_one(recording("plain"))[:8])
    error = b'data: {"error":{"code":500,"message":"at /srv/x.cpp","type":"server_error"}}\n\n'
    out = reader.read(data + error + data)
    assert b"/srv" not in out
    assert reader.error is not None
    assert len(events(out)) == 6


@pytest.mark.parametrize("sink", [None, lambda chunk: b"data: %b\n\n" % orjson.dumps(chunk)])
@pytest.mark.parametrize("garbage", [b"data: {\n\n", b'data: {"choices":5}\n\n', b"data: 5\n\n"])
def test_events_before_garbage_are_passed_on(sink: Sink | None, garbage: bytes) -> None:
    reader = ChunkReader(include_usage=True, sink=sink)
    parts = one_by_one(recording("plain"))
    out = reader.read(b"".join(parts[:8]) + garbage + parts[8])
    assert len(events(out)) == 6
    assert reader.error is not None
    assert reader.completion_tokens == events(parts[7])[0]["timings"]["predicted_n"]


def test_garbage_among_collected_deltas_is_an_error() -> None:
    heard: list[Any] = []

    def sink(chunk: Any) -> bytes:
        heard.append(chunk)
        return b""

    reader = ChunkReader(include_usage=True, sink=sink, collects=True)
    parts = one_by_one(recording("plain"))
    broken = parts[4][:-3] + b"\n\n"
    for part in (*parts[:8], broken, *parts[8:-1]):
        assert reader.read(part) == b""
    assert reader.error is not None
    # Not even those before it: an answer that fails has no text.
    assert len(heard) < 5


def test_what_is_collected_is_bounded() -> None:
    heard: list[Any] = []

    def sink(chunk: Any) -> bytes:
        heard.append(chunk)
        return b""

    reader = ChunkReader(include_usage=True, sink=sink, collects=True)
    parts = one_by_one(recording("plain"))
    for part in parts[:5]:
        reader.read(part)
    before = len(heard)
    for _ in range(MOST_BYTES // len(parts[5]) + 1):
        reader.read(parts[5])
    assert len(heard) > before


def test_an_unread_sink_gets_the_counts_only() -> None:
    heard: list[Any] = []

    def sink(chunk: Any) -> bytes:
        heard.append(chunk)
        return b""

    reader = ChunkReader(include_usage=False, sink=sink)
    reader.counts_only = True
    reader.read(recording("utf8_first"))
    assert (reader.prompt_tokens, reader.completion_tokens) == counts("utf8_first")
    assert all(chunk["choices"] == [] for chunk in heard)
    assert [chunk["usage"] for chunk in heard if "usage" in chunk] == [reader.usage]
    assert any("timings" in chunk for chunk in heard)


@pytest.mark.parametrize(
    "text",
    [
        '"usage": 5',
        '"timings":{"predicted_n":99}',
        ',"timings":{}',
        '"error":',
        "data: [DONE]",
        "}",
    ],
)
def test_marks_inside_the_text_of_the_answer_mean_nothing(text: str) -> None:
    chunk = events(one_by_one(recording("plain"))[3])[0]
    chunk["choices"][0]["delta"] = {"content": text}
    rendered = json.dumps(chunk, separators=(",", ":"), ensure_ascii=False)
    head = b"".join(one_by_one(recording("plain"))[:4])
    reader = ChunkReader(include_usage=False)
    reader.read(head)
    [seen] = events(reader.read(f"data: {rendered}\n\n".encode()))
    assert seen["choices"][0]["delta"]["content"] == text
    assert "timings" not in seen
    assert reader.completion_tokens == chunk["timings"]["predicted_n"]
    assert reader.usage is None and reader.error is None and not reader.done


@pytest.mark.parametrize("finish_reason", [None, "stop"])
def test_what_a_verbose_server_adds_is_taken_out(finish_reason: str | None) -> None:
    """llama-server logs so, and adds it to the last chunks, when started with `--verbose`."""
    start = b'data: {"choices":[{'
    first, *_, last = (each for each in one_by_one(recording("plain")) if each.startswith(start))
    chunk = orjson.loads(last.removeprefix(b"data: "))
    chunk["choices"][0] = {"finish_reason": finish_reason, "index": 0, "delta": {"content": "x"}}
    clean = {name: value for name, value in chunk.items() if name != "timings"}
    chunk["__verbose"] = {"prompt": "hello", "settings": {"a": ["b"] * 300}}
    reader = ChunkReader(include_usage=True)
    reader.first_token_at = 1.0
    reader.read(first)
    *_, seen = events(reader.read(sse.event(orjson.dumps(chunk))))
    assert seen == clean


def test_timings_in_a_shape_of_their_own_are_taken_out_too() -> None:
    chunk = events(one_by_one(recording("plain"))[3])[0]
    chunk["timings"]["nested"] = {"more": {}}
    reader = ChunkReader(include_usage=False)
    out = reader.read(f"data: {json.dumps(chunk)}\n\n".encode())
    assert b"timings" not in out


@pytest.mark.parametrize(
    "timings",
    [
        b',"timings":{"predicted_n":3,"prompt_n":2}',
        b',"timings":{"cache":{"n":1},"predicted_n":3,"prompt_n":2}',
    ],
)
def test_timings_go_whatever_they_hold(timings: bytes) -> None:
    chunk = b'{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"a"}}],"id":"1"%s}'
    reader = ChunkReader(include_usage=False)
    reader.read(sse.event(chunk % timings))
    out = reader.read(sse.event(chunk % timings) * 2)
    assert out == sse.event(chunk % b"") * 2
    assert reader.completion_tokens == 3
