"""The prices in force, kept in memory.

A process that had no requests for a while reads them first, so none is charged by a price that
ended long ago.
"""

import logging

from flask import Flask

from promptly.errors import ServiceUnavailable
from promptly.gateway.refreshed import Refreshed
from promptly.prices import EVERY_MODEL, ModelPrice, Price
from promptly.runtime.database import API, HotPathDatabase
from promptly.services.metering import price_versions
from promptly.transactions import transaction, use_pool

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 3.0
# A request waits for the prices only if they are older.
STALE_SECONDS = 15.0


class PriceList:
    """The prices in force by model; `wanted` are those of PRICES."""

    def __init__(
        self, app: Flask, database: HotPathDatabase, wanted: tuple[ModelPrice, ...]
    ) -> None:
        self._app = app
        self._database = database
        self._wanted = wanted
        self._prices: Refreshed[dict[str, Price]] = Refreshed(
            "price-list",
            self._read,
            {},
            every_seconds=REFRESH_SECONDS,
            trusted_seconds=STALE_SECONDS,
        )
        # PRICES are to be put in force, once PostgreSQL answers.
        self._is_due = False

    def put_in_force(self) -> None:
        """Put PRICES in force, as a gateway does when it starts; later if PostgreSQL is away."""
        self._is_due = True
        self._prices.refresh()

    def of(self, model: str) -> Price:
        """Return the price in force of a model.

        Raises ServiceUnavailable if PostgreSQL has not answered since this process started.
        """
        prices = self._prices.get()
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

    def _read(self) -> dict[str, Price]:
        if self._is_due:
            self._change()
        return price_versions.in_force(self._database)

    def _change(self) -> None:
        with self._app.app_context():
            use_pool(API)
            with transaction():
                has_changed = price_versions.put_in_force(self._wanted)
        self._is_due = False
        if has_changed:
            logger.info("prices changed", extra={"prices": ",".join(map(str, self._wanted))})
