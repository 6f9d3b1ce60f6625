"""How a hold follows its running request: shrunk to the prompt, grown ahead of the output, ended.

The hold refresher speaks to PostgreSQL, so a stream waits for it only when its hold is used up.
"""

import threading
import time
import uuid
from collections.abc import Callable, Generator
from typing import Protocol

from promptly.errors import ServiceUnavailable
from promptly.gateway import sse
from promptly.gateway.counts import MOST_TOKENS, Counts
from promptly.prices import rounded_up
from promptly.services import metering
from promptly.settings import Settings

NEVER = 2**62
# How long a stream waits for PostgreSQL to extend its hold before it gives up.
EXTENSION_SECONDS = 60.0


class Waiter(Protocol):
    """The request that waits for its hold."""

    def wait_for(self, event: threading.Event, seconds: float) -> bool: ...


class RunningHold:
    """The hold of one running request, its counts, and the output limit that follows from both.

    A request consists of one or more subrequests, one after the other: `counts` belong to the
    current one, `reserved_hundredths` is the part of the hold that is not for it (the cost of
    earlier ones, the prompts of later ones), in hundredths of a token as prices are: only the whole
    is rounded. The quantum is in tokens of output.

    `request_adjustment` queues this hold for the hold refresher, which moves it to `target_tokens`
    and calls `on_adjusted`.
    """

    __slots__ = (
        "_adjusted",
        "_comment_seconds",
        "_ended_cached_tokens",
        "_ended_completion_tokens",
        "_ended_prompt_tokens",
        "_price",
        "_quantum",
        "_quantum_cost",
        "_request_adjustment",
        "can_grow",
        "counts",
        "ended",
        "held_tokens",
        "max_tokens",
        "next_check_at",
        "placed",
        "reserved_hundredths",
        "settled",
        "stopped_by_key",
        "subrequests_left",
        "target_tokens",
    )

    def __init__(
        self,
        placed: metering.Hold,
        settings: Settings,
        request_adjustment: Callable[["RunningHold"], None],
        *,
        max_tokens: int | None,
        subrequests: int = 1,
        reserved_hundredths: int = 0,
    ) -> None:
        self._price = placed.price
        self._quantum = settings.hold_quantum_tokens
        self._quantum_cost = self._price.cost(0, 0, self._quantum)
        self._comment_seconds = settings.keepalive_comment_seconds
        self._request_adjustment = request_adjustment
        self._ended_prompt_tokens = self._ended_cached_tokens = self._ended_completion_tokens = 0
        self.placed = placed
        self.counts = Counts()
        self.held_tokens = placed.held_tokens
        self.reserved_hundredths = reserved_hundredths
        # The output limit of each subrequest; None without one.
        self.max_tokens = max_tokens
        self.subrequests_left = subrequests
        # The pending adjustment.
        self.target_tokens: int | None = None
        # Made when somebody waits for it: most streams never do, and its lock has a kilobyte.
        self._adjusted: threading.Event | None = None
        # False once the balance, or the key's cap, has nothing left to add.
        self.can_grow = True
        # The cap leaves less than the balance.
        self.stopped_by_key = placed.stopped_by_key
        # Another process has settled or recovered the hold.
        self.ended = False
        # The request's settlement has started: its hold must not be adjusted any more.
        self.settled = False
        # `keep_ahead` is due at this many completion tokens; 0 until the hold fits the prompt.
        self.next_check_at = 0

    @property
    def request_id(self) -> uuid.UUID:
        return self.placed.request_id

    @property
    def adjusted(self) -> threading.Event:
        """The event that is set once no adjustment is pending."""
        event = self._adjusted
        if event is None:
            event = self._adjusted = threading.Event()
        if self.target_tokens is None:
            event.set()
        return event

    def total_counts(self, *, with_prompt: bool = True) -> metering.RunningCounts:
        """Return the sums of all subrequests so far, the current one's prompt only `with_prompt`.

        Each at most what the database stores: a charge beyond that must not be lost.
        """
        counts = self.counts
        prompt, cached = self._ended_prompt_tokens, self._ended_cached_tokens
        if with_prompt:
            prompt += counts.prompt_tokens
            cached += counts.cached_tokens
        prompt = min(prompt, MOST_TOKENS)
        return metering.RunningCounts(
            self.request_id,
            prompt,
            min(cached, prompt),
            min(self._ended_completion_tokens + counts.completion_tokens, MOST_TOKENS),
        )

    def start(self, counts: Counts) -> None:
        """Count the first subrequest with `counts`."""
        self.counts = counts

    def start_next(self, counts: Counts, reserved_hundredths: int) -> None:
        """Count the next subrequest with `counts`, of which nothing is known yet."""
        self._ended_prompt_tokens += self.counts.prompt_tokens
        self._ended_cached_tokens += self.counts.cached_tokens
        self._ended_completion_tokens += self.counts.completion_tokens
        self.counts = counts
        self.reserved_hundredths = reserved_hundredths
        self.subrequests_left -= 1
        self.next_check_at = 0

    def limit_output(
        self, prompt_tokens: int | None, max_tokens: int | None, *, owns_cache: bool
    ) -> int | None:
        """Set and return the output limit that upstream is given.

        It is the client's `max_tokens`, or what the balance affords if this hold has all of it:
        upstream then ends the answer itself, at the balance's last token. `prompt_tokens` is the
        size of the prompt that is about to run, if it was counted. How much of it is in a cache of
        the account's own turns out later: upstream gets the limit for the best case, and our own
        ends the answer before, at the last token that is paid.
        """
        placed, price = self.placed, self._price
        self.max_tokens = max_tokens
        if (
            placed.has_all
            and prompt_tokens is not None
            and self.held_tokens == placed.held_tokens
            and price.output
        ):
            rate = price.cheapest_input if owns_cache else price.input
            affordable = price.output_for(self._room() - prompt_tokens * rate)
            self.max_tokens = affordable if max_tokens is None else min(max_tokens, affordable)
        return self.max_tokens

    def output_limit(self, prompt_tokens: int, cached_tokens: int) -> int | None:
        """Return how many completion tokens the hold covers after a prompt of this size.

        None if upstream stops before, at `max_tokens`.
        """
        price = self._price
        limit = price.output_for(self._room() - price.prompt(prompt_tokens, cached_tokens))
        return None if self.max_tokens is not None and limit >= self.max_tokens else limit

    def update_limit(self) -> None:
        """Set where output has to end, and where more has to be requested; idempotent."""
        counts = self.counts
        if counts.prompt_size is None:
            return
        limit = counts.limit = self.output_limit(counts.prompt_size, counts.cached_tokens)
        if limit is None or not self.can_grow:
            self.next_check_at = NEVER
        else:
            self.next_check_at = max(limit - self._quantum // 2, 1)

    def keep_ahead(self) -> None:
        """Shrink the hold once the prompt's size is known; later, request the next quantum."""
        if self.counts.prompt_size is None:
            return
        if self.next_check_at:
            self._adjust(self._next_target())
        else:
            self.shrink()

    def shrink(self) -> None:
        """Give back what the prompt, the output so far and a quantum do not need."""
        self.update_limit()
        needed = self._capped(self._cost(self.counts.completion_tokens + self._quantum))
        # Keep a small surplus as room for output: a statement costs more than it frees.
        if self.held_tokens - needed > self._quantum_cost:
            # Lower our limit first: freed tokens may be taken before we hear back.
            self.held_tokens = needed
            self.update_limit()
            self._adjust(needed)

    def grow(self, waiter: Waiter) -> Generator[bytes, None, bool]:
        """Wait until the used-up hold covers more output; False when the balance ends here.

        Yields comments for the client. Raises ServiceUnavailable if PostgreSQL does not answer,
        or if the hold was ended while this process was stalled: tokens without a hold are not given
        away.
        """
        deadline = time.monotonic() + EXTENSION_SECONDS
        # More of the prompt may have turned out to be cached.
        self.update_limit()
        while self.target_tokens is not None or self._is_used_up():
            if not self._has_more(self._next_target()):
                return False
            yield from self._wait(waiter, deadline)
        return True

    def cover(
        self, waiter: Waiter, least_tokens: int, wanted_tokens: int
    ) -> Generator[bytes, None, bool]:
        """Wait until at least `least_tokens` are held; False when the balance ends before.

        Requests up to `wanted_tokens` if fewer are held. Yields and raises as `grow` does.
        """
        deadline = time.monotonic() + EXTENSION_SECONDS
        while self.held_tokens < least_tokens:
            if not self._has_more(wanted_tokens):
                return False
            yield from self._wait(waiter, deadline)
        return True

    def place_again(self) -> None:
        """Request a hold of the same size in place of one that a crash of PostgreSQL lost."""
        if self.can_grow and self.target_tokens is None and not self.settled:
            self._adjust(self.held_tokens)

    def on_adjusted(self, moved: metering.MovedHold | None) -> None:
        """Take in what is held after an adjustment; None if the hold has ended."""
        target = self.target_tokens
        if moved is None:
            self.can_grow = False
            self.ended = True
        else:
            self.held_tokens, self.stopped_by_key = moved
            self.can_grow = target is None or moved.held_tokens >= target
        self.update_limit()
        self.target_tokens = None
        if self._adjusted is not None:
            self._adjusted.set()

    def _adjust(self, target_tokens: int) -> None:
        self._adjusted = None
        self.target_tokens = target_tokens
        self.next_check_at = NEVER
        self._request_adjustment(self)

    def _has_more(self, target_tokens: int) -> bool:
        """Request a target unless an adjustment is pending; False if there is no more."""
        if self.target_tokens is None:
            if self.ended:
                raise ServiceUnavailable
            if not self.can_grow:
                return False
            self._adjust(target_tokens)
        return True

    def _wait(self, waiter: Waiter, deadline: float) -> Generator[bytes, None, None]:
        answered = waiter.wait_for(self.adjusted, self._comment_seconds)
        if self.target_tokens is not None and time.monotonic() > deadline:
            raise ServiceUnavailable
        if not answered:
            yield sse.KEEPALIVE

    def _is_used_up(self) -> bool:
        limit = self.counts.limit
        return limit is not None and limit <= self.counts.completion_tokens

    def _next_target(self) -> int:
        # Normally the hold covers the counts; where they jumped, one step makes up for it.
        used = self._cost(self.counts.completion_tokens)
        return self._capped(max(self.held_tokens, used) + self._quantum_cost)

    def _capped(self, tokens: int) -> int:
        """Limit tokens to the whole cost of the request, if the client limited its output."""
        if self.max_tokens is None:
            return tokens
        return min(tokens, self._cost(self.max_tokens * self.subrequests_left))

    def _room(self) -> int:
        """Return the hundredths of a token that are held for the current subrequest."""
        return self.held_tokens * 100 - self.reserved_hundredths

    def _cost(self, output_tokens: int) -> int:
        """Return the tokens that cover what is reserved, the current prompt and this output."""
        counts, price = self.counts, self._price
        prompt = price.prompt(counts.prompt_size or 0, counts.cached_tokens)
        return rounded_up(self.reserved_hundredths + prompt + output_tokens * price.output)
