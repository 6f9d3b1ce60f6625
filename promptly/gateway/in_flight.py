"""A running request as others see it: the hold_refresher, the client's watcher, the drain."""

import threading
import time
import uuid
from collections.abc import Callable

from promptly.clients.llama import LlamaStream
from promptly.gateway.counts import Counts
from promptly.services.metering import Hold

NEVER = 2**62
# A write that has lasted for so long waits for a client that does not read.
STUCK_SECONDS = 1.0


class ClientGone(Exception):
    """The client has closed its connection."""


class Stopped(Exception):
    """The request was ended from outside; `reason` is an outcome."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class InFlightRequest:
    """One request between its hold and its settlement.

    Its own thread relays; others may only `stop` it and adjust its hold. It may consist of several
    subrequests, one after the other: `reader` has the counts of the current one.
    """

    __slots__ = (
        "adjusted",
        "attention_at",
        "can_grow",
        "ended_completion_tokens",
        "ended_prompt_tokens",
        "first_byte_seconds",
        "hang_up",
        "held_tokens",
        "hold",
        "hold_ended",
        "max_tokens",
        "reader",
        "request_id",
        "reserved_tokens",
        "settled",
        "started_at",
        "stop_reason",
        "stream",
        "subrequests_left",
        "target_tokens",
        "touched_at",
        "waker",
        "writing_since",
    )

    def __init__(
        self, request_id: uuid.UUID, reader: Counts, held_tokens: int, max_tokens: int | None
    ) -> None:
        self.request_id = request_id
        self.reader = reader
        self.held_tokens = held_tokens
        self.max_tokens = max_tokens
        # Cost of the subrequests that have ended, how many are left with the current one, and the
        # part of the hold that is not for it: the cost of earlier ones, the prompts of later ones.
        self.ended_prompt_tokens = self.ended_completion_tokens = 0
        self.subrequests_left = 1
        self.reserved_tokens = 0
        # How long upstream may take to begin, where the setting does not apply.
        self.first_byte_seconds: int | None = None
        self.started_at = self.touched_at = time.monotonic()
        self.writing_since: float | None = None
        self.stream: LlamaStream | None = None
        self.stop_reason: str | None = None
        # Set when its settlement begins: from then on its books are the settler's.
        self.settled = False
        # The hold: whether somebody else has ended it, what was asked for last, whether more may
        # be had, and at which completion it is to be looked at next.
        self.hold: Hold | None = None
        self.hold_ended = False
        self.can_grow = True
        self.target_tokens: int | None = None
        self.adjusted = threading.Event()
        self.attention_at = 0
        self.waker: threading.Event | None = None
        # Cuts the client off: the only way out of a write that it does not take.
        self.hang_up: Callable[[], None] | None = None

    def stop(self, reason: str) -> None:
        """End the request soon, for the first reason given; never blocks."""
        if self.stop_reason is None:
            self.stop_reason = reason
        if self.stream is not None:
            self.stream.cancel()
        if self.waker is not None:
            self.waker.set()
        since = self.writing_since
        stuck = since is not None and time.monotonic() - since > STUCK_SECONDS
        if stuck and self.hang_up is not None:
            self.hang_up()

    def raise_if_stopped(self) -> None:
        """Raise ClientGone or Stopped once somebody has ended the request."""
        if self.stop_reason == "client_disconnected":
            raise ClientGone
        if self.stop_reason is not None:
            raise Stopped(self.stop_reason)

    def counts(self) -> tuple[uuid.UUID, int, int]:
        """Request id, prompt tokens and completion tokens so far."""
        return (
            self.request_id,
            self.ended_prompt_tokens + self.reader.prompt_tokens,
            self.ended_completion_tokens + self.reader.completion_tokens,
        )

    def begin_subrequest(self, reader: Counts, reserved_tokens: int) -> None:
        """Go on with the next subrequest, of which nothing is known yet."""
        ended, self.reader = self.reader, reader
        self.ended_prompt_tokens += ended.prompt_tokens
        self.ended_completion_tokens += ended.completion_tokens
        self.reserved_tokens = reserved_tokens
        self.subrequests_left -= 1
        self.attention_at = 0

    def whole_cost(self, prompt_tokens: int) -> int | None:
        """The most this request can cost with this prompt; None if the client set no limit."""
        if self.max_tokens is None:
            return None
        return self.reserved_tokens + prompt_tokens + self.max_tokens * self.subrequests_left

    def set_limits(self, quantum_tokens: int) -> None:
        """From the hold and the prompt's size: where output must end, and where to ask for more."""
        if self.reader.prompt_size is None:
            return
        limit = max(self.held_tokens - self.reserved_tokens - self.reader.prompt_size, 0)
        if self.max_tokens is not None and limit >= self.max_tokens:
            # Upstream stops by itself before the hold is used up.
            self.reader.limit = None
            self.attention_at = NEVER
            return
        self.reader.limit = limit
        self.attention_at = max(limit - quantum_tokens // 2, 1) if self.can_grow else NEVER
