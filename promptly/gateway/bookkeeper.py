"""What goes on beside the running requests of a process, for all of them at once.

Every few seconds one statement checkpoints all their holds, and tells whose account is being
deleted: those end. Wishes for more tokens are met as they
come. Once a second every request's time limits are looked at. A request's own thread thus never
waits for PostgreSQL while tokens flow.
"""

import logging
import threading
import time
import uuid
from collections import deque

from promptly.errors import PromptlyError
from promptly.gateway.live import NEVER, LiveRequest
from promptly.gateway.time_limits import overdue
from promptly.runtime.database import FastLane
from promptly.services import metering
from promptly.settings import Settings

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
DRAIN_MARGIN_SECONDS = 5


class Bookkeeper:
    """Keeps the books of this process's running requests."""

    def __init__(self, settings: Settings, lane: FastLane) -> None:
        self._settings = settings
        self._lane = lane
        self._live: dict[uuid.UUID, LiveRequest] = {}
        self._wishes: deque[LiveRequest] = deque()
        self._unmet: list[LiveRequest] = []
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._checkpointed_at = time.monotonic()

    def add(self, live: LiveRequest) -> None:
        """Take a request into the books, from its hold on."""
        self._live[live.request_id] = live
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(
                        target=self._run, name="bookkeeper", daemon=True
                    )
                    self._thread.start()

    def remove(self, live: LiveRequest) -> None:
        """Take a settled request out of the books."""
        self._live.pop(live.request_id, None)

    def __len__(self) -> int:
        return len(self._live)

    def stop_all(self, reason: str) -> None:
        """End every running request."""
        for live in list(self._live.values()):
            live.stop(reason)

    def ask(self, live: LiveRequest, target_tokens: int) -> None:
        """Move a request's hold to `target_tokens`; its `adjusted` is set when that is done."""
        live.target_tokens = target_tokens
        live.adjusted.clear()
        live.attention_at = NEVER
        self._wishes.append(live)
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
            while self._wishes:
                self._adjust(self._wishes.popleft())
            self._wishes.extend(self._unmet)
            self._unmet.clear()
            now = time.monotonic()
            if now - self._checkpointed_at >= self._settings.checkpoint_seconds:
                self._checkpointed_at = now
                self._checkpoint()
            for live in list(self._live.values()):
                reason = overdue(live, now, self._settings)
                if reason is not None:
                    live.stop(reason)

    def _adjust(self, live: LiveRequest) -> None:
        target = live.target_tokens
        if target is None or live.settled:
            return
        try:
            held = metering.adjust_hold(self._lane, live.request_id, target)
            if held is None and live.hold is not None:
                held = metering.place_lost_hold(self._lane, live.hold, target)
        except PromptlyError:
            # PostgreSQL is away: the request goes on with what it has, the wish stays.
            self._unmet.append(live)
            return
        except Exception:
            # A bug must not end the books of all the others: this one keeps what it holds.
            logger.exception("hold not adjusted", extra={"request_id": live.request_id.hex})
            held = None
        live.target_tokens = None
        if held is None:
            live.can_grow = False
            live.hold_ended = True
        else:
            live.held_tokens = held
            live.can_grow = held >= target
        live.set_limits(self._settings.hold_quantum_tokens)
        live.adjusted.set()

    def _checkpoint(self) -> None:
        running = [live for live in self._live.values() if not live.settled]
        counts = [live.counts() for live in running]
        if not counts:
            return
        try:
            found = metering.checkpoint(self._lane, counts)
        except PromptlyError:
            logger.warning("checkpoint put off", extra={"requests": len(counts)})
        except Exception:
            logger.exception("checkpoint failed", extra={"requests": len(counts)})
        else:
            for live in running:
                if found.get(live.request_id):
                    live.stop("account_deleted")
                lost = live.request_id not in found and not live.settled
                if lost and live.can_grow and live.target_tokens is None:
                    # What the request holds is to be safe from others again, not only counted.
                    self.ask(live, live.held_tokens)
