"""Framing of server-sent events: bytes in, complete events out.

llama-server ends every line with a single line feed and every event with an empty line; it uses
nothing else of what https://html.spec.whatwg.org/multipage/server-sent-events.html allows.
"""

KEEPALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

# A longer event cannot belong to a chat completion.
MAX_EVENT_BYTES = 8 * 1024 * 1024


class EventTooLong(Exception):
    """Upstream has sent MAX_EVENT_BYTES without the end of an event."""


class EventBuffer:
    """Collects bytes into complete events, wherever the stream was cut."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the events that `data` completes, terminators included; empty if none.

        Raises EventTooLong.
        """
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


def queue_comment(position: int, wait_seconds: int | None) -> bytes:
    """Build the comment of a stream that waits for a slot."""
    if wait_seconds is None:
        return b": queue position=%d\n\n" % position
    return b": queue position=%d wait=%ds\n\n" % (position, wait_seconds)


def event(data: bytes) -> bytes:
    """Build an event with this data."""
    return b"data: " + data + b"\n\n"


def named_event(name: str, data: bytes) -> bytes:
    """Build an event with a name and this data."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
