import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptly.gateway import sse
from tests.gateway.recordings import NAMES, recording


@given(st.sampled_from(NAMES), st.lists(st.integers(0, 30_000), max_size=40))
def test_any_split_gives_the_same_events(name: str, cuts: list[int]) -> None:
    data = recording(name)
    buffer = sse.EventBuffer()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    out = [buffer.feed(data[a:b]) for a, b in itertools.pairwise(places)]
    assert b"".join(out) == data
    assert all(block.endswith(b"\n\n") for block in out if block)


def test_byte_by_byte() -> None:
    data = recording("utf8_first")
    buffer = sse.EventBuffer()
    blocks = [block for at in range(len(data)) if (block := buffer.feed(data[at : at + 1]))]
    assert [block.count(b"\n\n") for block in blocks] == [1] * len(blocks)
    assert b"".join(blocks) == data


def test_incomplete_events_are_kept_back() -> None:
    buffer = sse.EventBuffer()
    assert buffer.feed(b"data: 1\n") == b""
    assert buffer.feed(b"\ndata: 2\n\ndata: 3") == b"data: 1\n\ndata: 2\n\n"
    assert buffer.feed(b"\n\n") == b"data: 3\n\n"


def test_a_line_without_an_end_is_refused() -> None:
    buffer = sse.EventBuffer()
    line = b"x" * (1024 * 1024)
    for _ in range(sse.MAX_EVENT_BYTES // len(line)):
        buffer.feed(line)
    with pytest.raises(sse.EventTooLong):
        buffer.feed(line)


def test_an_event() -> None:
    assert sse.event(b"{}") == b"data: {}\n\n"
    assert sse.KEEPALIVE.startswith(b":") and sse.KEEPALIVE.endswith(b"\n\n")


def test_the_comment_of_a_waiting_stream() -> None:
    assert sse.queue_comment(3, 12) == b": queue position=3 wait=12s\n\n"
    assert sse.queue_comment(1, None) == b": queue position=1\n\n"
