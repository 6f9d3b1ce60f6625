"""Cuts llama-server's `timings` out of its events, by searching where that is possible.

Searching is exact: inside a JSON string every quote is escaped, so `,"timings":{` can only be a
key.
"""

import orjson

from promptly.gateway import sse

_TIMINGS = b',"timings":{'
_PREDICTED = b'"predicted_n":'
_VERBOSE = b',"__verbose":'
_VERBOSE_BYTES = 1024


def has_verbose(block: bytes) -> bool:
    """Return whether a block may have the `__verbose` that a server adds that logs verbosely.

    It is in a stream's last chunks: the prompt, all settings and more.
    """
    # The search would cost a sixth of the whole. Small blocks are spared it: it is never so small.
    return len(block) >= _VERBOSE_BYTES and _VERBOSE in block


def cut_from_end(event: bytes) -> bytes | None:
    """Return one event without the flat `timings` at its end.

    None if it does not end with them: `without_timings` finds them anywhere.
    """
    at = event.rfind(_TIMINGS)
    # The first closing brace has to be the last but one: nothing is nested, and nothing follows.
    if at < 0 or event.find(b"}", at) != len(event) - 4 or not event.endswith(b"}}\n\n"):
        return None
    return event[:at] + b"}\n\n"


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
