"""The steps of a running request: place a hold, adjust it, checkpoint its counts, settle it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from promptly.errors import InsufficientQuota, Limit, RateLimited, TokensReserved
from promptly.models.states import Outcome
from promptly.prices import Price
from promptly.services.metering import sql

# Holds without a checkpoint for this long do not count against their account's limit.
SILENT_SECONDS = 8
ANY_NUMBER = 2**31 - 1


class Database(Protocol):
    """The part of a database that metering uses: single statements, each its own transaction."""

    def fetch_one(self, statement: str, parameters: dict[str, Any]) -> tuple[Any, ...] | None: ...

    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]: ...


@dataclass(slots=True)
class Hold:
    """Tokens set aside for one request; `has_all` if it took everything the account could spend.

    `price` is what the request is charged by, `terms` are the parameters that it was placed with.
    """

    request_id: uuid.UUID
    held_tokens: int
    has_all: bool
    price: Price
    terms: dict[str, Any]


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
    price: Price,
    top_up_url: str,
) -> Hold:
    """Hold `wanted_tokens`, or all that is available if that is at least `minimum_tokens`.

    The request is charged by `price`, whatever becomes of it meanwhile.

    Raises RateLimited if the account already runs `max_open_holds` requests, TokensReserved if
    its other holds are in the way, InsufficientQuota if it does not own enough.
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
        "price_id": price.id,
    }
    row = database.fetch_one(sql.PLACE_HOLD, parameters)
    if row is not None and not row[0] and row[4] >= max_open_holds and row[2] >= minimum_tokens:
        # Some of the account's requests may have died with their process.
        silent = database.fetch_one(
            sql.SILENT_HOLDS, {"user_id": user_id, "silent_seconds": SILENT_SECONDS}
        )
        if silent is not None and silent[0]:
            max_open_holds += silent[0]
            row = database.fetch_one(
                sql.PLACE_HOLD, parameters | {"max_open_holds": max_open_holds}
            )
    if row is None:
        raise _not_covered(minimum_tokens, 0, 0, top_up_url)
    placed, held, available, reserved, open_holds = row
    if placed:
        return Hold(request_id, held, has_all=held >= available, price=price, terms=parameters)
    if open_holds >= max_open_holds:
        raise RateLimited(
            f"This account already runs {open_holds} requests, as many as it may at a time.",
            limit=Limit.CONCURRENCY,
            retry_after_seconds=2,
        )
    raise _not_covered(minimum_tokens, available, reserved, top_up_url)


def require_tokens(database: Database, user_id: int, tokens: int, top_up_url: str) -> None:
    """Raise an error unless the account has `tokens` to spend.

    TokensReserved if its running requests hold some, else InsufficientQuota.
    """
    row = database.fetch_one(sql.SPENDABLE, {"user_id": user_id})
    available, reserved = (0, 0) if row is None else row
    if available < tokens:
        raise _not_covered(tokens, available, reserved, top_up_url)


def _not_covered(
    needed: int, available: int, reserved: int, top_up_url: str
) -> TokensReserved | InsufficientQuota:
    if reserved > 0:
        return TokensReserved(
            f"{reserved} tokens of this account are reserved by its running requests, and the "
            f"{available} left do not cover this one. Try again when they have ended.",
            retry_after_seconds=5,
        )
    if available <= 0:
        return InsufficientQuota(
            f"Insufficient balance: this account has no tokens left. Top up at {top_up_url}"
        )
    return InsufficientQuota(
        f"Insufficient balance: this request needs at least {needed} tokens, "
        f"{available} are left. Top up at {top_up_url}"
    )


def place_lost_hold(database: Database, hold: Hold, wanted_tokens: int) -> int | None:
    """Place a running request's hold again, as far as the balance covers it; return its tokens.

    PostgreSQL loses a hold if it crashes before writing it to disk. Returns None if the hold was
    not lost but has ended (recovered while this process was stalled), or the account is gone.
    """
    terms = {"wanted": wanted_tokens, "minimum": 0, "max_open_holds": ANY_NUMBER}
    row = database.fetch_one(sql.PLACE_LOST_HOLD, hold.terms | terms)
    return int(row[1]) if row is not None and row[0] else None


def adjust_hold(database: Database, request_id: uuid.UUID, target_tokens: int) -> int | None:
    """Move a hold towards `target_tokens`; return what it holds now.

    Less than the target if the balance does not cover it; None if the hold is not open
    (recovered while this process was stalled, or lost in a crash of PostgreSQL).
    """
    row = database.fetch_one(
        sql.ADJUST_HOLD, {"request_id": str(request_id), "target": target_tokens}
    )
    return None if row is None or row[0] is None else int(row[0])


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

    Returns None if the hold is not open: `recovery.settle_late` then finds out why. Safe to
    repeat after a failure whose effect is unknown.
    """
    row = database.fetch_one(sql.SETTLE, parameters_of(settlement))
    return None if row is None else Charge(*row)


def settle_many(database: Database, settlements: Sequence[Settlement]) -> list[Charge | None]:
    """As `settle`, for many in one transaction, with one wait for the disk: all or none.

    Raises ServiceUnavailable also if another transaction keeps a lock for too long.
    """
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
