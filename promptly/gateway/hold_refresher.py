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
from promptly.gateway.in_flight import NEVER, InFlightRequest
from promptly.gateway.time_limits import overdue
from promptly.runtime.database import HotPathDatabase
from promptly.services import metering
from promptly.settings import Settings

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
DRAIN_MARGIN_SECONDS = 5


class HoldRefresher:
    """Keeps the books of this process's running requests."""

    def __init__(self, settings: Settings, database: HotPathDatabase) -> None:
        self._settings = settings
        self._database = database
        self._in_flight: dict[uuid.UUID, InFlightRequest] = {}
        self._pending_adjustments: deque[InFlightRequest] = deque()
        self._deferred: list[InFlightRequest] = []
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._checkpointed_at = time.monotonic()

    def add(self, in_flight: InFlightRequest) -> None:
        """Take a request into the books, from its hold on."""
        self._in_flight[in_flight.request_id] = in_flight
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(
                        target=self._run, name="hold_refresher", daemon=True
                    )
                    self._thread.start()

    def remove(self, in_flight: InFlightRequest) -> None:
        """Take a settled request out of the books."""
        self._in_flight.pop(in_flight.request_id, None)

    def __len__(self) -> int:
        return len(self._in_flight)

    def stop_all(self, reason: str) -> None:
        """End every running request."""
        for in_flight in list(self._in_flight.values()):
            in_flight.stop(reason)

    def ask(self, in_flight: InFlightRequest, target_tokens: int) -> None:
        """Move a request's hold to `target_tokens`; its `adjusted` is set when that is done."""
        in_flight.target_tokens = target_tokens
        in_flight.adjusted.clear()
        in_flight.attention_at = NEVER
        self._pending_adjustments.append(in_flight)
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
            while self._pending_adjustments:
                self._adjust(self._pending_adjustments.popleft())
            self._pending_adjustments.extend(self._deferred)
            self._deferred.clear()
            now = time.monotonic()
            if now - self._checkpointed_at >= self._settings.checkpoint_seconds:
                self._checkpointed_at = now
                self._checkpoint()
            for in_flight in list(self._in_flight.values()):
                reason = overdue(in_flight, now, self._settings)
                if reason is not None:
                    in_flight.stop(reason)

    def _adjust(self, in_flight: InFlightRequest) -> None:
        target = in_flight.target_tokens
        if target is None or in_flight.settled:
            return
        try:
            held = metering.adjust_hold(self._database, in_flight.request_id, target)
            if held is None and in_flight.hold is not None:
                held = metering.place_lost_hold(self._database, in_flight.hold, target)
        except PromptlyError:
            # PostgreSQL is away: the request goes on with what it has, the wish stays.
            self._deferred.append(in_flight)
            return
        except Exception:
            # A bug must not end the books of all the others: this one keeps what it holds.
            logger.exception("hold not adjusted", extra={"request_id": in_flight.request_id.hex})
            held = None
        in_flight.target_tokens = None
        if held is None:
            in_flight.can_grow = False
            in_flight.hold_ended = True
        else:
            in_flight.held_tokens = held
            in_flight.can_grow = held >= target
        in_flight.set_limits(self._settings.hold_quantum_tokens)
        in_flight.adjusted.set()

    def _checkpoint(self) -> None:
        running = [in_flight for in_flight in self._in_flight.values() if not in_flight.settled]
        counts = [in_flight.counts() for in_flight in running]
        if not counts:
            return
        try:
            found = metering.checkpoint(self._database, counts)
        except PromptlyError:
            logger.warning("checkpoint put off", extra={"requests": len(counts)})
        except Exception:
            logger.exception("checkpoint failed", extra={"requests": len(counts)})
        else:
            for in_flight in running:
                if found.get(in_flight.request_id):
                    in_flight.stop("account_deleted")
                lost = in_flight.request_id not in found and not in_flight.settled
                if lost and in_flight.can_grow and in_flight.target_tokens is None:
                    # What the request holds is to be safe from others again, not only counted.
                    self.ask(in_flight, in_flight.held_tokens)
