"""Limits of single keys: expiry, models, addresses, a cap of tokens, requests at a time.

Holds take a part of cap and number of requests, so metering keeps their row exact
(`migrations/functions/metering_0022.sql`); the rest is checked when the key is looked up. A change
holds for running requests as well: they take no more than the new cap leaves.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict

from sqlalchemy import func, select, text

from promptly import cap_periods
from promptly.clock import utcnow
from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import ApiKey, Balance, KeyLimit
from promptly.models.states import CapPeriod
from promptly.services.accounts import accounts, keys
from promptly.services.ledger.balances import iso

MOST_CAP_TOKENS = 10**15
MOST_CONCURRENT_REQUESTS = 10_000

# Charges of events that are older do not change any more: a stalled process settles within an hour.
SETTLED_AFTER = timedelta(hours=2)

_USED = text("""
SELECT coalesce(sum(charged_paid + charged_trial), 0) FROM usage_events
WHERE user_id = :user_id AND key_id = :key_id
  AND created_at >= :since AND created_at < :until
""")

_HELD = text("""
SELECT coalesce(sum(held_paid + held_trial), 0), count(*) FROM holds
WHERE user_id = :user_id AND key_id = :key_id AND state = 'open'
""")


class KeyLimitChanges(TypedDict, total=False):
    """Limits to set; None takes one away. Limits that are left out stay.

    Cap and period change together.
    """

    expires_at: datetime | None
    allowed_models: list[str] | None
    allowed_addresses: list[str] | None
    concurrent_requests: int | None
    cap_tokens: int | None
    cap_period: CapPeriod | None


@dataclass(frozen=True)
class KeyLimits:
    """The limits of a key, None where it has none, and the tokens of its cap that are used.

    `used_tokens` were charged in the cap's present period, `reserved_tokens` are held by running
    requests; both are 0 without a cap. The period ends at `resets_at`.
    """

    expires_at: datetime | None
    allowed_models: list[str] | None
    allowed_addresses: list[str] | None
    concurrent_requests: int | None
    cap_tokens: int | None
    cap_period: CapPeriod | None
    used_tokens: int = 0
    reserved_tokens: int = 0
    resets_at: datetime | None = None

    @property
    def any(self) -> bool:
        """Whether the key has any limit."""
        return any(value is not None for value in self.settings().values())

    @property
    def left_tokens(self) -> int | None:
        """The tokens that the key can still spend in this period; None without a cap."""
        if self.cap_tokens is None:
            return None
        return max(self.cap_tokens - self.used_tokens - self.reserved_tokens, 0)

    def settings(self) -> dict[str, Any]:
        """Return the limits by name, without what is used of them."""
        return {name: value for name, value in asdict(self).items() if name not in _USE}


_USE = ("used_tokens", "reserved_tokens", "resets_at")


def of_keys(user_id: int) -> dict[int, KeyLimits]:
    """Return the limits of an account's keys that are not revoked, by the key's id."""
    query = (
        select(ApiKey, KeyLimit)
        .outerjoin(KeyLimit, KeyLimit.key_id == ApiKey.id)
        .where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
        .order_by(ApiKey.id)
    )
    return {key.id: _described(key, row) for key, row in db.session.execute(query)}


def of(key: ApiKey) -> KeyLimits:
    """Return the limits of a key."""
    return _described(key, db.session.get(KeyLimit, key.id))


def described(key: ApiKey) -> dict[str, Any]:
    """Return a key with its limits and their use, as the API shows it."""
    limits = of(key)
    cap = None
    if limits.cap_tokens is not None:
        cap = {
            "tokens": limits.cap_tokens,
            "per": limits.cap_period,
            "used_tokens": limits.used_tokens,
            "reserved_tokens": limits.reserved_tokens,
            "left_tokens": limits.left_tokens,
            "resets_at": iso(limits.resets_at),
        }
    return {
        "object": "key",
        "name": key.name,
        "prefix": key.prefix,
        "scope": key.scope,
        "batch": key.batch,
        "created_at": iso(key.created_at),
        "expires_at": iso(limits.expires_at),
        "models": limits.allowed_models,
        "addresses": limits.allowed_addresses,
        "concurrent_requests": limits.concurrent_requests,
        "cap": cap,
    }


def set_limits(user_id: int, key_id: int, changes: KeyLimitChanges) -> tuple[KeyLimits, KeyLimits]:
    """Change the limits of an account's key; return them before and after.

    A new cap counts what the key was charged in the present period already. Locks the account.

    Raises NotFound unless the account has this key, and it is valid.
    """
    accounts.lock(user_id)
    key = keys.find_active(key_id)
    if key is None or key.user_id != user_id:
        raise NotFound("There is no such active key.")
    before = of(key)
    wanted: dict[str, Any] = before.settings() | dict(changes)
    for name in ("expires_at", "allowed_models", "allowed_addresses"):
        setattr(key, name, wanted[name])
    counted = ("cap_tokens", "cap_period", "concurrent_requests")
    if any(wanted[name] != getattr(before, name) for name in counted):
        _set_counted(key, {name: wanted[name] for name in counted})
    db.session.flush()
    return before, of(key)


def _set_counted(key: ApiKey, wanted: dict[str, Any]) -> None:
    """Write the limits that holds take a part of, with what is used of them."""
    now = utcnow()
    since = cap_periods.start(CapPeriod(wanted["cap_period"] or CapPeriod.EVER), now)
    limited = any(value is not None for value in wanted.values())
    mark = max(now - SETTLED_AFTER, since)
    # The long part of the sum, before the lock that all of the account's requests wait for.
    used = _charged(key, since, mark) if limited else 0
    balance = db.session.scalar(
        select(Balance)
        .where(Balance.user_id == key.user_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    row = db.session.get(KeyLimit, key.id, populate_existing=True)
    if limited:
        row = row or KeyLimit(key_id=key.id, user_id=key.user_id)
        for name, value in wanted.items():
            setattr(row, name, value)
        held, holds = db.session.execute(_HELD, _names(key)).one()
        row.period_start = since
        row.used_tokens = used + _charged(key, mark, datetime.max.replace(tzinfo=now.tzinfo))
        row.held_tokens, row.open_holds = int(held), holds
        db.session.add(row)
    elif row is not None:
        db.session.delete(row)
    db.session.flush()
    if balance is not None:
        balance.limited_keys = (
            db.session.scalar(
                select(func.count()).select_from(KeyLimit).where(KeyLimit.user_id == key.user_id)
            )
            or 0
        )


def _charged(key: ApiKey, since: datetime, until: datetime) -> int:
    names = _names(key) | {"since": since, "until": until}
    return int(db.session.scalar(_USED, names) or 0)


def _names(key: ApiKey) -> dict[str, Any]:
    return {"user_id": key.user_id, "key_id": key.id}


def _described(key: ApiKey, row: KeyLimit | None) -> KeyLimits:
    limits = (key.expires_at, key.allowed_models, key.allowed_addresses)
    if row is None:
        return KeyLimits(*limits, None, None, None)
    if row.cap_period is None:
        return KeyLimits(*limits, row.concurrent_requests, None, None)
    now = utcnow()
    is_current = row.period_start >= cap_periods.start(row.cap_period, now)
    return KeyLimits(
        *limits,
        row.concurrent_requests,
        row.cap_tokens,
        row.cap_period,
        row.used_tokens if is_current else 0,
        row.held_tokens,
        cap_periods.end(row.cap_period, now),
    )
