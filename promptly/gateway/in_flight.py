"""A running request as others see it: the hold refresher, the client's watcher, the drain."""

import threading
import time
import uuid
from collections.abc import Callable

from promptly.clients.llama import LlamaStream
from promptly.gateway.running_hold import RunningHold
from promptly.models.states import Outcome

# A write that takes longer waits for a client that does not read.
STUCK_SECONDS = 1.0
# So does a request that is still not settled this long after its stop.
STOPPED_SECONDS = 5.0


class ClientGone(Exception):
    """The client has closed its connection."""


class Stopped(Exception):
    """The request was ended from outside; `reason` becomes its outcome."""

    def __init__(self, reason: Outcome) -> None:
        self.reason = reason
        super().__init__(reason)


class InFlightRequest:
    """One request between its hold and its settlement: its upstream stream, times and stop.

    Its own thread relays; others may only `stop` it and adjust its `hold`.
    """

    __slots__ = (
        "first_byte_seconds",
        "hang_up",
        "hold",
        "started_at",
        "stop_reason",
        "stopped_at",
        "stream",
        "touched_at",
        "waker",
        "writing_since",
    )

    def __init__(self, hold: RunningHold) -> None:
        self.hold = hold
        # Upstream's time limit to its first byte, where the setting does not apply.
        self.first_byte_seconds: int | None = None
        self.started_at = self.touched_at = time.monotonic()
        self.writing_since: float | None = None
        self.stream: LlamaStream | None = None
        self.stop_reason: Outcome | None = None
        self.stopped_at = 0.0
        # The event that the request's own thread is waiting for.
        self.waker: threading.Event | None = None
        # Cuts the client off: the only way out of a write that the client does not read.
        self.hang_up: Callable[[], None] | None = None

    @property
    def request_id(self) -> uuid.UUID:
        return self.hold.request_id

    def stop(self, reason: Outcome) -> None:
        """End the request soon; the first reason counts. Never blocks.

        Called again while the request goes on, it hangs up on a client that does not read.
        """
        now = time.monotonic()
        if self.stop_reason is None:
            self.stop_reason = reason
            self.stopped_at = now
        if self.stream is not None:
            self.stream.cancel()
        if self.waker is not None:
            self.waker.set()
        since = self.writing_since
        stuck = since is not None and now - since > STUCK_SECONDS
        if not self.hold.settled:
            # Not every write is marked, and only a write keeps a stopped request for so long.
            stuck = stuck or now - self.stopped_at > STOPPED_SECONDS
        if stuck and self.hang_up is not None:
            self.hang_up()

    def raise_if_stopped(self) -> None:
        """Raise ClientGone or Stopped if the request was ended."""
        if self.stop_reason == Outcome.CLIENT_DISCONNECTED:
            raise ClientGone
        if self.stop_reason is not None:
            raise Stopped(self.stop_reason)

    def wait_for(self, event: threading.Event, seconds: float) -> bool:
        """Wait for an event, at most `seconds`; return whether it was set.

        Raises ClientGone or Stopped as soon as the request is stopped.
        """
        self.waker = event
        was_set = self.stop_reason is None and event.wait(seconds)
        self.waker = None
        self.raise_if_stopped()
        return was_set
