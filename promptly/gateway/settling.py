"""Settles requests without losing a charge: at once, and again until PostgreSQL accepts it.

Settlements that arrive while a batch runs go together into the next: one call, one wait for the
disk, and one lock of an account for all its requests.
"""

import logging
import threading
import time
from collections.abc import Callable

from flask import Flask

from promptly.runtime import request_metrics
from promptly.runtime.batching import Batcher
from promptly.runtime.database import API, HotPathDatabase
from promptly.services import metering
from promptly.services.metering import recovery
from promptly.transactions import transaction, use_pool

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
# Failures that end a round of retries: one may be a locked account, several mean PostgreSQL.
MAX_FAILURES = 3
GIVE_UP_SECONDS = 3600.0


class Settler:
    """Settles this process's requests."""

    def __init__(self, app: Flask, database: HotPathDatabase) -> None:
        self._app = app
        self._database = database
        self._together: Batcher[metering.Settlement, metering.Charge | None] = Batcher(
            lambda settlements: metering.settle_many(database, settlements)
        )
        self._pending: dict[str, tuple[float, metering.Settlement, Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def settle(
        self, settlement: metering.Settlement, settled: Callable[[], None]
    ) -> metering.Charge | None:
        """Settle now, or else retry in the background; call `settled` when done or given up.

        Returns None if PostgreSQL is away (the charge follows later) or the account is gone.
        """
        try:
            charge = self._together.submit(settlement) or self._settle(settlement)
        except Exception as problem:
            # Retry after any exception: the charge must not be lost.
            logger.warning(
                "settlement put off",
                extra={"request_id": settlement.request_id.hex, "reason": type(problem).__name__},
            )
            with self._lock:
                self._pending[settlement.request_id.hex] = (time.monotonic(), settlement, settled)
                request_metrics.settlements_waiting.set(len(self._pending))
                self._start()
            return None
        settled()
        return charge

    def pending(self) -> int:
        """Return the number of settlements that wait for PostgreSQL."""
        return len(self._pending)

    def _settle(self, settlement: metering.Settlement) -> metering.Charge | None:
        charge = metering.settle(self._database, settlement)
        if charge is not None:
            return charge
        with self._app.app_context():
            use_pool(API)
            with transaction() as session:
                return recovery.settle_late(session, settlement)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._retry, name="settler", daemon=True)
            self._thread.start()

    def _retry(self) -> None:
        idle = threading.Event()
        while True:
            idle.wait(RETRY_SECONDS)
            failures = 0
            for key, (since, settlement, settled) in list(self._pending.items()):
                try:
                    self._settle(settlement)
                except Exception as problem:
                    # Retry bugs too: an operator may fix the cause, for one in the database.
                    if time.monotonic() - since < GIVE_UP_SECONDS:
                        failures += 1
                        with self._lock:
                            # Move it to the end: one that always fails must not delay the others.
                            self._pending[key] = self._pending.pop(key)
                        if failures >= MAX_FAILURES:
                            break
                        continue
                    logger.error(
                        "settlement given up", exc_info=problem, extra=_figures(settlement)
                    )
                with self._lock:
                    self._pending.pop(key, None)
                    request_metrics.settlements_waiting.set(len(self._pending))
                settled()
            with self._lock:
                if not self._pending:
                    self._thread = None
                    return


def _figures(settlement: metering.Settlement) -> dict[str, object]:
    return {
        "request_id": settlement.request_id.hex,
        "user_id": settlement.user_id,
        "prompt_tokens": settlement.prompt_tokens,
        "completion_tokens": settlement.completion_tokens,
    }
