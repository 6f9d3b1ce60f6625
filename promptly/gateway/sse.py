"""Framing of server-sent events: bytes in, whole events out.

llama-server ends every line with a single line feed and every event with an empty line
(https://html.spec.whatwg.org/multipage/server-sent-events.html allows more, it sends no more).
"""

KEEPALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

# An event longer than this is no event of a chat completion.
MAX_EVENT_BYTES = 8 * 1024 * 1024


class EventTooLong(Exception):
    """Upstream sends a line without an end."""


class EventBuffer:
    """Collects bytes until they hold whole events, wherever the stream was cut."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The whole events that are complete with `data`, ends included; maybe none."""
        if self._rest:
            data = self._rest + data
        if data.endswith(b"\n\n"):
            self._rest = b""
            return data
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            if len(data) > MAX_EVENT_BYTES:
                raise EventTooLong
            self._rest = data
            return b""
        self._rest = data[end:]
        return data[:end]


def event(data: bytes) -> bytes:
    """One event with this data."""
    return b"data: " + data + b"\n\n"


def named_event(name: str, data: bytes) -> bytes:
    """One event with a name and this data."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
