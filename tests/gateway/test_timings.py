"""Cutting `timings` out of events."""

import orjson
import pytest

from promptly.gateway import sse
from promptly.gateway.timings import cut_from_end, last_count, without_timings
from tests.gateway.recordings import NAMES, events, recording

DELTA = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"a"}}]%b\n\n'


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_event_is_cut_as_a_parser_would(name: str) -> None:
    cut = 0
    for event in recording(name).split(b"\n\n")[:-1]:
        found = cut_from_end(event + b"\n\n")
        if found is None:
            continue
        out, count = found
        [chunk] = events(event + b"\n\n")
        assert count == last_count(event + b"\n\n") == chunk.pop("timings")["predicted_n"]
        assert events(out) == [chunk]
        assert out == without_timings(event + b"\n\n")
        cut += 1
    assert cut > 5


@pytest.mark.parametrize(
    "end",
    [
        b"}",
        b',"timings":{"predicted_n":1},"id":"x"}',
        b',"timings":{"predicted_n":1,"more":{"a":1}}}',
        b',"timings":{"more":{"predicted_n":1}}}',
        b',"timings":{"more":1}}',
        b',"more":{"a":1,"timings":{"predicted_n":1}}}',
    ],
)
def test_other_ends_are_left_to_a_parser(end: bytes) -> None:
    assert cut_from_end(DELTA % end) is None


TIMED = DELTA % b',"timings":{"a":1,"predicted_n":7,"b":2.5}}'


def test_a_flat_object_at_the_end_is_cut() -> None:
    assert cut_from_end(TIMED) == (DELTA % b"}", 7)


@pytest.mark.parametrize("before", [TIMED, b": comment\n\n", b"event: message\n"])
def test_only_a_single_event_is_cut(before: bytes) -> None:
    assert cut_from_end(before + TIMED) is None


@pytest.mark.parametrize("count", [b"", b"-1", b"+1", b" 1", b"1_0", b"1.5", b"null"])
def test_a_count_that_is_no_number_is_left_to_a_parser(count: bytes) -> None:
    assert cut_from_end(TIMED.replace(b"7", count)) is None


def test_the_last_count_of_a_block() -> None:
    timed = [sse.event(orjson.dumps({"timings": {"predicted_n": n}})) for n in (8, 9)]
    assert last_count(b"".join(timed)) == 9
    assert last_count(DELTA % b"}") == 0
