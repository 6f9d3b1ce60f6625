"""The first steps of a hold: place it, move it while its request runs, place it again if lost."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from promptly import cap_periods
from promptly.errors import InsufficientQuota, KeyLimitReached, Limit, RateLimited, TokensReserved
from promptly.models.states import CapPeriod
from promptly.prices import Price
from promptly.services.metering import sql
from promptly.services.metering.holds import Database

# Holds without a checkpoint for this long do not count against their account's limit.
SILENT_SECONDS = 8


@dataclass(slots=True)
class Hold:
    """Tokens set aside for one request; `has_all` if it took everything the key could spend.

    `price` is what the request is charged by, `terms` are the parameters that it was placed with.
    `stopped_by_key` if the key's cap leaves less than the balance.
    """

    request_id: uuid.UUID
    held_tokens: int
    has_all: bool
    price: Price
    terms: dict[str, Any]
    stopped_by_key: bool = False


class MovedHold(NamedTuple):
    """The tokens of a hold, and whether its key let it have less than the balance would."""

    held_tokens: int
    stopped_by_key: bool


class _Placed(NamedTuple):
    """A row of `metering_place_hold`: the figures of account and key before."""

    placed: bool
    held: int
    available: int
    reserved: int
    open_holds: int
    # Null for a key without a cap, and without a number of requests at a time.
    key_room: int | None
    key_reserved: int | None
    key_open_holds: int | None
    key_max_open_holds: int | None
    key_cap: int | None
    key_period: str | None

    @property
    def stopped_by_key(self) -> bool:
        return self.key_room is not None and self.key_room < self.available


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

    Raises RateLimited if the account already runs `max_open_holds` requests, or the key as many as
    it may, TokensReserved if other holds of the account or key are in the way, InsufficientQuota if
    the account does not own enough, KeyLimitReached if the key's cap does not leave enough.
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
        "silent_of_key": 0,
    }
    found = database.fetch_one(sql.PLACE_HOLD, parameters)
    if found is None:
        raise _not_covered(minimum_tokens, 0, 0, top_up_url)
    row = _Placed(*found)
    if not row.placed and _runs_too_many(row, max_open_holds):
        # Some of these requests may have died with their process.
        silent = database.fetch_one(
            sql.SILENT_HOLDS,
            {"user_id": user_id, "key_id": key_id, "silent_seconds": SILENT_SECONDS},
        )
        if silent is not None and silent[0]:
            more = {"max_open_holds": max_open_holds + silent[0], "silent_of_key": silent[1]}
            found = database.fetch_one(sql.PLACE_HOLD, parameters | more)
            row = row if found is None else _Placed(*found)
    if not row.placed:
        raise _refusal(row, minimum_tokens, max_open_holds, top_up_url)
    available = row.available if row.key_room is None else min(row.available, row.key_room)
    return Hold(
        request_id,
        row.held,
        has_all=row.held >= available,
        price=price,
        terms=parameters,
        stopped_by_key=row.stopped_by_key,
    )


def require_tokens(database: Database, user_id: int, tokens: int, top_up_url: str) -> None:
    """Raise an error unless the account has `tokens` to spend.

    TokensReserved if its running requests hold some, else InsufficientQuota.
    """
    row = database.fetch_one(sql.SPENDABLE, {"user_id": user_id})
    available, reserved = (0, 0) if row is None else row
    if available < tokens:
        raise _not_covered(tokens, available, reserved, top_up_url)


def place_lost_hold(database: Database, hold: Hold, wanted_tokens: int) -> MovedHold | None:
    """Place a running request's hold again, as far as balance and key cover it.

    PostgreSQL loses a hold if it crashes before writing it to disk. Returns None if the hold was
    not lost but has ended (recovered while this process was stalled), or the account is gone.
    """
    terms = {"wanted": wanted_tokens, "minimum": 0, "max_open_holds": None}
    found = database.fetch_one(sql.PLACE_LOST_HOLD, hold.terms | terms)
    if found is None:
        return None
    row = _Placed(*found)
    return MovedHold(row.held, row.stopped_by_key) if row.placed else None


def adjust_hold(database: Database, request_id: uuid.UUID, target_tokens: int) -> MovedHold | None:
    """Move a hold towards `target_tokens`; return what it holds now.

    Less than the target if balance or key do not cover it; None if the hold is not open
    (recovered while this process was stalled, or lost in a crash of PostgreSQL).
    """
    row = database.fetch_one(
        sql.MOVE_HOLD, {"request_id": str(request_id), "target": target_tokens}
    )
    return None if row is None else MovedHold(*row)


def _runs_too_many(row: _Placed, max_open_holds: int) -> bool:
    if row.open_holds >= max_open_holds:
        return True
    most, running = row.key_max_open_holds, row.key_open_holds
    return most is not None and running is not None and running >= most


def _refusal(
    row: _Placed, needed: int, max_open_holds: int, top_up_url: str
) -> RateLimited | InsufficientQuota | KeyLimitReached:
    if row.open_holds >= max_open_holds:
        return _too_many("account", row.open_holds)
    if row.available < needed:
        return _not_covered(needed, row.available, row.reserved, top_up_url)
    if row.key_room is None or row.key_room >= needed:
        return _too_many("key", row.key_open_holds or 0)
    if row.key_reserved:
        return _reserved("key's limit", row.key_reserved, row.key_room)
    period = CapPeriod(row.key_period or CapPeriod.EVER)
    return KeyLimitReached(
        f"Key limit reached: this key may spend {row.key_cap} tokens {cap_periods.LABELS[period]}, "
        f"and the {row.key_room} left do not cover this request. {_reset(period)}",
        room=row.key_room,
    )


def _reset(period: CapPeriod) -> str:
    resets_at = cap_periods.end(period, datetime.now(UTC))
    if resets_at is None:
        return "The owner of the account can raise the limit."
    return f"The limit starts anew at {resets_at:%Y-%m-%dT%H:%M:%SZ}."


def _too_many(owner: str, running: int) -> RateLimited:
    return RateLimited(
        f"This {owner} already runs {running} requests, as many as it may at a time.",
        limit=Limit.CONCURRENCY,
        retry_after_seconds=2,
    )


def _not_covered(
    needed: int, available: int, reserved: int, top_up_url: str
) -> TokensReserved | InsufficientQuota:
    if reserved > 0:
        return _reserved("account", reserved, available)
    if available <= 0:
        return InsufficientQuota(
            f"Insufficient balance: this account has no tokens left. Top up at {top_up_url}"
        )
    return InsufficientQuota(
        f"Insufficient balance: this request needs at least {needed} tokens, "
        f"{available} are left. Top up at {top_up_url}"
    )


def _reserved(owner: str, reserved: int, left: int) -> TokensReserved:
    return TokensReserved(
        f"{reserved} tokens of this {owner} are reserved by its running requests, and the "
        f"{left} left do not cover this one. Try again when they have ended.",
        retry_after_seconds=5,
    )
