"""Prices by version: a changed setting ends the version in force and starts the next one.

Each request is placed with the version of its model, and charged by it to its end.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from sqlalchemy import select, text

from promptly.extensions import db
from promptly.models import PriceVersion
from promptly.prices import EVERY_MODEL, ModelPrice, Price
from promptly.services import audit

SYSTEM = "system"

_VALID = "SELECT model, input, cached, output, id FROM prices WHERE valid_until IS NULL"

# Of gateways that start at the same time, each compares with what the one before it has written.
_LOCK = text("SELECT pg_advisory_xact_lock(724103)")

# Not now(), which is before the lock; and never before the start of a version, whatever the clock.
_MOMENT = text("SELECT greatest(clock_timestamp(), max(valid_from)) FROM prices")


class Database(Protocol):
    """Runs one statement."""

    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]: ...


def in_force(database: Database) -> dict[str, Price]:
    """Return the prices in force by model, with one for EVERY_MODEL among them."""
    return {row[0]: Price(*row[1:]) for row in database.fetch_all(_VALID, {})}


def history() -> list[PriceVersion]:
    """Return all versions: those in force first, then the others, newest first."""
    query = select(PriceVersion).order_by(
        PriceVersion.valid_until.desc().nulls_first(),
        PriceVersion.model != EVERY_MODEL,
        PriceVersion.model,
        PriceVersion.id.desc(),
    )
    return list(db.session.scalars(query))


def differences(wanted: Iterable[ModelPrice]) -> dict[str, tuple[Price | None, Price | None]]:
    """Return each model whose price in force is not the wanted one, with both of them."""
    rows = db.session.scalars(select(PriceVersion).where(PriceVersion.valid_until.is_(None)))
    current = {row.model: row.price for row in rows}
    future = {item.model: item.price for item in wanted}
    return {
        model: (current.get(model), future.get(model))
        for model in sorted(current.keys() | future.keys())
        if current.get(model) != future.get(model)
    }


def put_in_force(wanted: Iterable[ModelPrice]) -> bool:
    """End each version that is not wanted, and start those that are; return whether any was."""
    db.session.execute(_LOCK)
    changes = differences(wanted)
    if not changes:
        return False
    current = select(PriceVersion).where(
        PriceVersion.model.in_(changes), PriceVersion.valid_until.is_(None)
    )
    moment = db.session.scalar(_MOMENT)
    for version in db.session.scalars(current):
        version.valid_until = moment
    # The index allows one version in force for each model.
    db.session.flush()
    for model, (_, price) in changes.items():
        if price is not None:
            db.session.add(
                PriceVersion(
                    model=model,
                    input=price.input,
                    cached=price.cached,
                    output=price.output,
                    valid_from=moment,
                )
            )
    audit.record(
        "prices.change",
        actor=SYSTEM,
        before={model: str(price) for model, (price, _) in changes.items() if price is not None},
        after={model: str(price) for model, (_, price) in changes.items() if price is not None},
    )
    return True
