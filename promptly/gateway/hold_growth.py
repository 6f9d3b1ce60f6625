"""How a hold follows its request: corrected to the prompt, grown ahead of the output, ended.

The hold refresher speaks to PostgreSQL, so a stream waits for it only when its hold is used up.
"""

import time
from collections.abc import Generator

from promptly.errors import ServiceUnavailable
from promptly.gateway import sse
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.hold_refresher import HoldRefresher
from promptly.gateway.in_flight import InFlightRequest
from promptly.services import metering
from promptly.settings import Settings

# How long a stream waits for PostgreSQL to extend its hold before it gives up.
EXTENSION_SECONDS = 60.0


def affordable_limit(
    in_flight: InFlightRequest,
    hold: metering.Hold,
    prompt_tokens: int | None,
    max_tokens: int | None,
) -> int | None:
    """The client's limit; or the balance's, when this request holds all there is.

    Upstream then ends the answer itself, at the balance's last token. `prompt_tokens` is the size
    of the prompt that is about to run, if it was counted.
    """
    if not hold.has_all or prompt_tokens is None or in_flight.held_tokens != hold.held_tokens:
        return max_tokens
    affordable = in_flight.held_tokens - in_flight.reserved_tokens - prompt_tokens
    return affordable if max_tokens is None else min(max_tokens, affordable)


class HoldGrowth:
    """Keeps a running request's hold ahead of its output; `reader` reads the current subrequest."""

    def __init__(
        self,
        settings: Settings,
        hold_refresher: HoldRefresher,
        in_flight: InFlightRequest,
        reader: ChunkReader,
    ) -> None:
        self._quantum = settings.hold_quantum_tokens
        self._comment_seconds = settings.keepalive_comment_seconds
        self._hold_refresher = hold_refresher
        self._in_flight = in_flight
        self.reader = reader

    def keep_ahead(self) -> None:
        """Correct the hold once the prompt's size is known; later, ask for the next quantum."""
        reader, in_flight = self.reader, self._in_flight
        if reader.prompt_size is None:
            return
        if in_flight.attention_at:
            self._hold_refresher.ask(in_flight, self._next_target())
            return
        in_flight.set_limits(self._quantum)
        needed = in_flight.reserved_tokens + reader.prompt_size + reader.completion_tokens
        needed += self._quantum
        whole = in_flight.whole_cost(reader.prompt_size)
        needed = needed if whole is None else min(needed, whole)
        # A small surplus is left as room for output: a statement costs more than it frees.
        if in_flight.held_tokens - needed > self._quantum:
            # What is given up may be another request's before this one hears of it.
            in_flight.held_tokens = needed
            in_flight.set_limits(self._quantum)
            self._hold_refresher.ask(in_flight, needed)

    def grow(self) -> Generator[bytes, None, bool]:
        """The hold is used up: wait until it covers more; False when the balance ends here.

        Yields what the client gets meanwhile. Raises ServiceUnavailable when PostgreSQL does not
        answer, or the hold was ended while this process stood still: tokens that nobody holds are
        not given away.
        """
        reader, in_flight = self.reader, self._in_flight
        deadline = time.monotonic() + EXTENSION_SECONDS
        while reader.limit_reached:
            if in_flight.target_tokens is None and (
                reader.limit is None or reader.limit > reader.completion_tokens
            ):
                out = reader.resume(reader.limit)
                if out:
                    yield out
                continue
            if not self._can_wait_for(self._next_target()):
                return False
            yield from self._wait(deadline)
        return True

    def cover(self, least_tokens: int, wanted_tokens: int) -> Generator[bytes, None, bool]:
        """Wait until the hold is `least_tokens` or more; False when the balance ends before.

        What is not there yet is asked for up to `wanted_tokens`. Yields and raises as `grow` does.
        """
        in_flight = self._in_flight
        deadline = time.monotonic() + EXTENSION_SECONDS
        while in_flight.held_tokens < least_tokens:
            if not self._can_wait_for(wanted_tokens):
                return False
            yield from self._wait(deadline)
        return True

    def _can_wait_for(self, target_tokens: int) -> bool:
        """Ask for so much unless something is being asked for; False if there is no more."""
        in_flight = self._in_flight
        if in_flight.target_tokens is None:
            if in_flight.hold_ended:
                raise ServiceUnavailable
            if not in_flight.can_grow:
                return False
            self._hold_refresher.ask(in_flight, target_tokens)
        return True

    def _wait(self, deadline: float) -> Generator[bytes, None, None]:
        in_flight = self._in_flight
        in_flight.waker = in_flight.adjusted
        answered = in_flight.adjusted.wait(self._comment_seconds)
        in_flight.waker = None
        in_flight.raise_if_stopped()
        if in_flight.target_tokens is not None and time.monotonic() > deadline:
            raise ServiceUnavailable
        if not answered:
            yield sse.KEEPALIVE

    def _next_target(self) -> int:
        target = self._in_flight.held_tokens + self._quantum
        whole = self._in_flight.whole_cost(self.reader.prompt_size or 0)
        return target if whole is None else min(target, whole)
