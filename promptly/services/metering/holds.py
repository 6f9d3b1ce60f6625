"""The steps of a living request: place a hold, move it, note how far it got, settle it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from promptly.errors import InsufficientQuota, RateLimited, TokensReserved
from promptly.services.metering import sql

# A process that has not checkpointed for this long does not count against its account's limit.
SILENT_SECONDS = 8
ANY_NUMBER = 2**31 - 1


class Database(Protocol):
    """What metering needs of the database: single statements, each its own transaction."""

    def fetch_one(self, statement: str, parameters: dict[str, Any]) -> tuple[Any, ...] | None: ...

    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]: ...


@dataclass(slots=True)
class Hold:
    """Tokens set aside for one request; `has_all` when it holds everything the account has.

    `terms` are what it was placed with.
    """

    request_id: uuid.UUID
    held_tokens: int
    has_all: bool
    terms: dict[str, Any]


@dataclass(slots=True)
class Settlement:
    """How a request ended: upstream's own counts, and what the usage event tells beside them."""

    request_id: uuid.UUID
    user_id: int
    key_id: int
    endpoint: str
    model: str
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    time_to_first_token_ms: int | None
    duration_ms: int


@dataclass(slots=True)
class Charge:
    """What a settlement took, and what the account can still spend."""

    charged_tokens: int
    uncharged_tokens: int
    balance_tokens: int


def place_hold(
    database: Database,
    *,
    request_id: uuid.UUID,
    user_id: int,
    key_id: int,
    endpoint: str,
    model: str,
    wanted_tokens: int,
    minimum_tokens: int,
    max_open_holds: int,
    top_up_url: str,
) -> Hold:
    """Hold `wanted_tokens`, or what is left if that is `minimum_tokens` or more.

    Raises RateLimited when the account runs as many requests as it may, TokensReserved when
    its other holds are in the way, InsufficientQuota when it does not own enough.
    """
    parameters = {
        "request_id": str(request_id),
        "user_id": user_id,
        "key_id": key_id,
        "endpoint": endpoint,
        "model": model,
        "wanted": wanted_tokens,
        "minimum": minimum_tokens,
        "max_open_holds": max_open_holds,
    }
    row = database.fetch_one(sql.PLACE_HOLD, parameters)
    if row is not None and not row[0] and row[4] >= max_open_holds and row[2] >= minimum_tokens:
        # Perhaps some of the account's requests died with their process.
        silent = database.fetch_one(
            sql.SILENT_HOLDS, {"user_id": user_id, "silent_seconds": SILENT_SECONDS}
        )
        if silent is not None and silent[0]:
            max_open_holds += silent[0]
            row = database.fetch_one(
                sql.PLACE_HOLD, parameters | {"max_open_holds": max_open_holds}
            )
    if row is None:
        raise InsufficientQuota(f"This account has no balance. Top up at {top_up_url}")
    placed, held, available, reserved, open_holds = row
    if placed:
        return Hold(request_id, held, has_all=held >= available, terms=parameters)
    if open_holds >= max_open_holds:
        raise RateLimited(
            f"This account already runs {open_holds} requests, as many as it may at a time.",
            retry_after_seconds=2,
        )
    if reserved > 0:
        raise TokensReserved(
            f"{reserved} tokens of this account are reserved by its running requests, and the "
            f"{available} left do not cover this one. Try again when they have ended.",
            retry_after_seconds=5,
        )
    raise InsufficientQuota(
        f"Insufficient balance: this request needs at least {minimum_tokens} tokens, "
        f"{available} are left. Top up at {top_up_url}"
    )


def place_lost_hold(database: Database, hold: Hold, wanted_tokens: int) -> int | None:
    """Place a running request's hold again, as far as the balance reaches; return what it holds.

    PostgreSQL loses a hold when it crashes before it has written it. None when it was not lost
    but has ended (recovered while this process stood still), or the account is gone.
    """
    terms = {"wanted": wanted_tokens, "minimum": 0, "max_open_holds": ANY_NUMBER}
    row = database.fetch_one(sql.PLACE_LOST_HOLD, hold.terms | terms)
    return int(row[1]) if row is not None and row[0] else None


def adjust_hold(database: Database, request_id: uuid.UUID, target_tokens: int) -> int | None:
    """Move a hold towards `target_tokens` and return what it holds now.

    Less than the target when the balance does not cover it; None when the hold is not open
    (recovered while this process was stalled, or lost in a crash of PostgreSQL).
    """
    row = database.fetch_one(
        sql.ADJUST_HOLD, {"request_id": str(request_id), "target": target_tokens}
    )
    return None if row is None or row[0] is None else int(row[0])


def checkpoint(
    database: Database, counts: Sequence[tuple[uuid.UUID, int, int]]
) -> dict[uuid.UUID, bool]:
    """Note (request, prompt tokens, completion tokens) so far; return those still open.

    Of each it is told whether its account is being deleted, so that it has to end.
    """
    rows = database.fetch_all(
        sql.CHECKPOINT,
        {
            "request_ids": [str(request_id) for request_id, _, _ in counts],
            "prompt_tokens": [prompt for _, prompt, _ in counts],
            "completion_tokens": [completion for _, _, completion in counts],
        },
    )
    return {uuid.UUID(str(row[0])): bool(row[1]) for row in rows}


def settle(database: Database, settlement: Settlement) -> Charge | None:
    """Charge a request against its hold and free the rest; durable when it returns.

    Returns None when the hold is not open: `recovery.settle_late` then finds out why. May be
    repeated after a failure that left its effect unknown.
    """
    row = database.fetch_one(sql.SETTLE, parameters_of(settlement))
    return None if row is None else Charge(*row)


def settle_many(database: Database, settlements: Sequence[Settlement]) -> list[Charge | None]:
    """As `settle`, for many at once and with one wait for the disk; all or none of them.

    Raises ServiceUnavailable also when a lock that somebody else keeps is in the way.
    """
    rows = database.fetch_all(
        sql.SETTLE_MANY,
        {
            "request_ids": [str(item.request_id) for item in settlements],
            "models": [item.model for item in settlements],
            "outcomes": [item.outcome for item in settlements],
            "prompt_tokens": [item.prompt_tokens for item in settlements],
            "completion_tokens": [item.completion_tokens for item in settlements],
            "time_to_first_token_ms": [item.time_to_first_token_ms for item in settlements],
            "duration_ms": [item.duration_ms for item in settlements],
        },
    )
    charges = {str(row[0]): Charge(*row[1:]) for row in rows}
    return [charges.get(str(item.request_id)) for item in settlements]


def parameters_of(settlement: Settlement) -> dict[str, Any]:
    """The settlement as parameters of a statement."""
    return {
        "request_id": str(settlement.request_id),
        "user_id": settlement.user_id,
        "key_id": settlement.key_id,
        "endpoint": settlement.endpoint,
        "model": settlement.model,
        "outcome": settlement.outcome,
        "prompt_tokens": settlement.prompt_tokens,
        "completion_tokens": settlement.completion_tokens,
        "time_to_first_token_ms": settlement.time_to_first_token_ms,
        "duration_ms": settlement.duration_ms,
    }
