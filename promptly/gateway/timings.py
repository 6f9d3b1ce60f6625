"""Cuts llama-server's `timings` out of its events, by searching where that is possible.

Searching is exact: inside a JSON string every quote is escaped, so `,"timings":{` can only be a
key.
"""

import orjson

from promptly.gateway import sse

# How the events of text begin, but for the first and the last ones.
PLAIN = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{'
_TIMINGS = b',"timings":{'
_PREDICTED = b'"predicted_n":'
_VERBOSE = b',"__verbose":'
_VERBOSE_BYTES = 1024


def cut_from_end(block: bytes) -> tuple[bytes, int] | None:
    """Return a single event without the flat `timings` at its end, and their count of tokens.

    None for all that is not such an event: `without_timings` and `last_count` find them anywhere.
    """
    at = block.rfind(_TIMINGS)
    size = len(block)
    if (
        at < 0
        # The first closing brace has to be the last but one: nothing is nested, nothing follows.
        or block.find(b"}", at) != size - 4
        or not block.endswith(b"}}\n\n")
        # The first line break is the event's end: there is no other event before.
        or block.find(b"\n") != size - 2
        or size >= _VERBOSE_BYTES
    ):
        return None
    start = block.find(_PREDICTED, at) + len(_PREDICTED)
    digits = block[start : block.find(b",", start)]
    return (block[:at] + b"}\n\n", int(digits)) if digits.isdigit() else None


def cut_deltas(block: bytes) -> tuple[bytes, int] | None:
    """Return plain deltas without their timings, and the last count; None if others are there."""
    # Single line breaks are counted several times as fast as double ones.
    if block.count(b"\n") != 2 * block.count(PLAIN):
        return None
    # In the last chunks of a server that logs verbosely: the prompt, all settings and more.
    # The search would cost a sixth of the whole, and a small block cannot have it.
    if len(block) >= _VERBOSE_BYTES and _VERBOSE in block:
        return None
    return without_timings(block), last_count(block)


def last_count(block: bytes) -> int:
    """Return the count of generated tokens that a block of deltas ends with; 0 if it has none."""
    at = block.rfind(_PREDICTED)
    if at < 0:
        return 0
    start = end = at + len(_PREDICTED)
    while 48 <= block[end] <= 57:
        end += 1
    return int(block[start:end] or b"0")


def without_timings(events: bytes) -> bytes:
    """Remove `timings` from events, wherever they are."""
    at = events.find(_TIMINGS)
    if at < 0:
        return events
    parts = []
    start = 0
    while at >= 0:
        end = events.find(b"}", at)
        if events.find(b"{", at + len(_TIMINGS), end) >= 0:
            # Not the flat object it is today: leave the cutting to a parser.
            return b"".join(
                sse.event(_parsed_without_timings(event[6:]))
                for event in events.split(b"\n\n")
                if event.startswith(b"data: ")
            )
        parts.append(events[start:at])
        start = end + 1
        at = events.find(_TIMINGS, start)
    parts.append(events[start:])
    return b"".join(parts)


def cleaned(data: bytes) -> bytes:
    """Build one event from this data, without `timings` and `__verbose`."""
    event = without_timings(sse.event(data))
    if b'"timings":' in event or _VERBOSE in event:
        # Timings that come first in their object, or what only a parser can cut out.
        return sse.event(_parsed_without_timings(data))
    return event


def _parsed_without_timings(data: bytes) -> bytes:
    chunk = orjson.loads(data)
    chunk.pop("timings", None)
    chunk.pop("__verbose", None)
    return orjson.dumps(chunk)
