"""The later steps of a hold: checkpoint the counts of its request, settle it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from promptly.models.states import Outcome
from promptly.services.metering import sql


class Database(Protocol):
    """The part of a database that metering uses: single statements, each its own transaction."""

    def fetch_one(self, statement: str, parameters: dict[str, Any]) -> tuple[Any, ...] | None: ...

    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]: ...


class RunningCounts(NamedTuple):
    """The counts of a running request so far; its cached tokens are a part of the prompt's."""

    request_id: uuid.UUID
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class Settlement:
    """How a request ended: upstream's own counts, and the other fields of its usage event."""

    request_id: uuid.UUID
    user_id: int
    key_id: int
    endpoint: str
    model: str
    outcome: Outcome
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    time_to_first_token_ms: int | None
    duration_ms: int
    # The version that its hold has, for a hold that PostgreSQL has lost.
    price_id: int


@dataclass(slots=True)
class Charge:
    """Result of a settlement: tokens charged, tokens not covered, and tokens left to spend."""

    charged_tokens: int
    uncharged_tokens: int
    balance_tokens: int


def checkpoint(
    database: Database, counts: Sequence[RunningCounts]
) -> dict[uuid.UUID, Outcome | None]:
    """Store the counts of requests so far; return the requests still open.

    The value is the outcome of a request that must end, as its account is being deleted or is
    suspended.
    """
    rows = database.fetch_all(
        sql.CHECKPOINT,
        {
            "request_ids": [str(item.request_id) for item in counts],
            "prompt_tokens": [item.prompt_tokens for item in counts],
            "cached_prompt_tokens": [item.cached_prompt_tokens for item in counts],
            "completion_tokens": [item.completion_tokens for item in counts],
        },
    )
    return {uuid.UUID(str(row[0])): _end_of(closed=row[1], suspended=row[2]) for row in rows}


def _end_of(*, closed: bool, suspended: bool) -> Outcome | None:
    if closed:
        return Outcome.ACCOUNT_DELETED
    return Outcome.ACCOUNT_SUSPENDED if suspended else None


def settle(database: Database, settlement: Settlement) -> Charge | None:
    """Charge a request against its hold and free the rest; durable on return.

    Returns None if the hold is not open: `recovery.settle_late` then finds out why. Raises
    ServiceUnavailable also if another transaction keeps a lock for too long. Safe to repeat after
    a failure whose effect is unknown.
    """
    row = database.fetch_one(sql.SETTLE, parameters_of(settlement))
    return None if row is None else Charge(*row)


def settle_many(database: Database, settlements: Sequence[Settlement]) -> list[Charge | None]:
    """As `settle`, for many in one transaction, with one wait for the disk: all or none."""
    if len(settlements) == 1:
        return [settle(database, settlements[0])]
    rows = database.fetch_all(
        sql.SETTLE_MANY,
        {
            "request_ids": [str(item.request_id) for item in settlements],
            "models": [item.model for item in settlements],
            "outcomes": [item.outcome for item in settlements],
            "prompt_tokens": [item.prompt_tokens for item in settlements],
            "cached_prompt_tokens": [item.cached_prompt_tokens for item in settlements],
            "completion_tokens": [item.completion_tokens for item in settlements],
            "time_to_first_token_ms": [item.time_to_first_token_ms for item in settlements],
            "duration_ms": [item.duration_ms for item in settlements],
        },
    )
    charges = {str(row[0]): Charge(*row[1:]) for row in rows}
    return [charges.get(str(item.request_id)) for item in settlements]


def parameters_of(settlement: Settlement) -> dict[str, Any]:
    return {
        "request_id": str(settlement.request_id),
        "user_id": settlement.user_id,
        "key_id": settlement.key_id,
        "endpoint": settlement.endpoint,
        "model": settlement.model,
        "outcome": settlement.outcome,
        "prompt_tokens": settlement.prompt_tokens,
        "cached_prompt_tokens": settlement.cached_prompt_tokens,
        "completion_tokens": settlement.completion_tokens,
        "time_to_first_token_ms": settlement.time_to_first_token_ms,
        "duration_ms": settlement.duration_ms,
        "price_id": settlement.price_id,
    }
