"""Looks after the holds of all running requests of a process, in one thread.

Every few seconds one statement checkpoints all holds and reports the accounts that are suspended
or being deleted, whose requests then end. Adjustments of holds are executed as they are requested,
and once a second all requests are checked against their time limits. So no request's own thread
waits for PostgreSQL while tokens flow.
"""

import logging
import threading
import time
import uuid
from collections import deque

from promptly.errors import PromptlyError
from promptly.gateway.in_flight import InFlightRequest
from promptly.gateway.running_hold import RunningHold
from promptly.gateway.time_limits import overdue
from promptly.models.states import Outcome
from promptly.runtime.database import HotPathDatabase
from promptly.services import metering
from promptly.settings import Settings

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0


class HoldRefresher:
    """Checkpoints and adjusts the holds of this process's running requests."""

    def __init__(self, settings: Settings, database: HotPathDatabase) -> None:
        self._settings = settings
        self._database = database
        self._in_flight: dict[uuid.UUID, InFlightRequest] = {}
        self._pending_adjustments: deque[RunningHold] = deque()
        # Adjustments to retry because PostgreSQL did not answer.
        self._deferred: list[RunningHold] = []
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._checkpointed_at = time.monotonic()

    def add(self, in_flight: InFlightRequest) -> None:
        """Look after a request from now on."""
        self._in_flight[in_flight.request_id] = in_flight
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(
                        target=self._run, name="hold_refresher", daemon=True
                    )
                    self._thread.start()

    def remove(self, in_flight: InFlightRequest) -> None:
        """Forget a settled request; idempotent."""
        self._in_flight.pop(in_flight.request_id, None)

    def __len__(self) -> int:
        return len(self._in_flight)

    def stop_all(self, reason: Outcome) -> None:
        """End every running request."""
        for in_flight in list(self._in_flight.values()):
            in_flight.stop(reason)

    def request_adjustment(self, hold: RunningHold) -> None:
        """Move a hold to its target soon; its `on_adjusted` is called then."""
        self._pending_adjustments.append(hold)
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

    def _adjust(self, hold: RunningHold) -> None:
        target = hold.target_tokens
        if target is None or hold.settled:
            return
        try:
            moved = metering.adjust_hold(self._database, hold.request_id, target)
            if moved is None:
                moved = metering.place_lost_hold(self._database, hold.placed, target)
        except PromptlyError:
            # PostgreSQL is away: the request goes on with what it has.
            self._deferred.append(hold)
            return
        except Exception:
            # A bug must not stop the adjustments of all other requests.
            logger.exception("hold not adjusted", extra={"request_id": hold.request_id.hex})
            moved = None
        hold.on_adjusted(moved)

    def _checkpoint(self) -> None:
        running = [item for item in self._in_flight.values() if not item.hold.settled]
        counts = [in_flight.hold.total_counts() for in_flight in running]
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
                reason = found.get(in_flight.request_id)
                if reason is not None:
                    in_flight.stop(reason)
                if in_flight.request_id not in found:
                    # Re-place the hold so that no other request can spend these tokens.
                    in_flight.hold.place_again()
