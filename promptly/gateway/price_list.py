"""The prices in force, kept in memory.

They are read again while requests go on, off their path. A process that had no requests for a while
reads them first, so none is charged by a price that ended long ago. With PostgreSQL away, the last
known prices stay.
"""

import logging
import threading
import time

import psycopg2
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from promptly.errors import ServiceUnavailable
from promptly.prices import EVERY_MODEL, ModelPrice, Price
from promptly.runtime.database import API, HotPathDatabase
from promptly.services.metering import price_versions
from promptly.transactions import transaction, use_pool

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 3.0
# A request waits for the prices only if they are older.
STALE_SECONDS = 15.0
# While none were ever read.
RETRY_SECONDS = 0.5

_FAILURES = (ServiceUnavailable, SQLAlchemyError, psycopg2.Error)


class PriceList:
    """The prices in force by model; `wanted` are those of PRICES."""

    def __init__(
        self, app: Flask, database: HotPathDatabase, wanted: tuple[ModelPrice, ...]
    ) -> None:
        self._app = app
        self._database = database
        self._wanted = wanted
        self._prices: dict[str, Price] = {}
        self._read_at = float("-inf")
        # PRICES have to be put in force, which PostgreSQL was away for.
        self._is_due = False
        self._refreshing = threading.Lock()

    def put_in_force(self) -> None:
        """Put PRICES in force, as a gateway does when it starts; later if PostgreSQL is away."""
        self._is_due = True
        self._refresh()

    def of(self, model: str) -> Price:
        """Return the price in force of a model.

        Raises ServiceUnavailable if PostgreSQL has not answered since this process started.
        """
        age = time.monotonic() - self._read_at
        if age >= STALE_SECONDS:
            self._refresh()
        elif age >= REFRESH_SECONDS and not self._refreshing.locked():
            threading.Thread(target=self._refresh, name="price_list", daemon=True).start()
        prices = self._prices
        if not prices:
            raise ServiceUnavailable
        return prices.get(model) or prices[EVERY_MODEL]

    def shown(self, model: str) -> Price:
        """Return the price of a model for pages: that of PRICES while PostgreSQL is away."""
        try:
            return self.of(model)
        except ServiceUnavailable:
            known = {item.model: item.price for item in self._wanted}
            return known.get(model) or known[EVERY_MODEL]

    def _refresh(self) -> None:
        """Read the prices, once at a time."""
        with self._refreshing:
            age = time.monotonic() - self._read_at
            if age < (REFRESH_SECONDS if self._prices else STALE_SECONDS) and not self._is_due:
                return
            try:
                if self._is_due:
                    self._change()
                self._prices = price_versions.in_force(self._database)
            except _FAILURES as problem:
                logger.warning("prices not read", extra={"reason": type(problem).__name__})
            # Also after a failure: the last known prices stay for as long again.
            self._read_at = time.monotonic()
            if not self._prices:
                self._read_at += RETRY_SECONDS - STALE_SECONDS

    def _change(self) -> None:
        with self._app.app_context():
            use_pool(API)
            with transaction():
                has_changed = price_versions.put_in_force(self._wanted)
        self._is_due = False
        if has_changed:
            logger.info("prices changed", extra={"prices": ",".join(map(str, self._wanted))})
