"""Limits of single accounts in place of the installation's, and their suspension.

A suspended account keeps its balance, its keys and its dashboard; /v1 refuses it, its running
requests end at their next checkpoint, and it buys nothing.
"""

import logging
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypedDict

from promptly.clock import utcnow
from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import User
from promptly.services.accounts import accounts
from promptly.services.audit import Operator

logger = logging.getLogger(__name__)

# Each request of the last minute is an entry of a list in Redis.
MOST_REQUESTS_PER_MINUTE = 100_000
MOST_CONCURRENT_REQUESTS = 10_000
# Of accounts with a rate of their own; each process has them all in memory.
MOST_KEYS = 10_000

_RATES = """
SELECT k.key_hash, u.id, u.requests_per_minute
FROM users u JOIN api_keys k ON k.user_id = u.id
WHERE u.requests_per_minute IS NOT NULL AND k.revoked_at IS NULL
ORDER BY u.id, k.id
LIMIT %(limit)s
"""


class Database(Protocol):
    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]: ...


class AccountRate(NamedTuple):
    """Requests per minute of one account, all of its keys together."""

    user_id: int
    requests_per_minute: int


class LimitChanges(TypedDict, total=False):
    """Limits to set; None restores the installation's. Limits that are left out stay."""

    requests_per_minute: int | None
    concurrent_requests: int | None


@dataclass(frozen=True)
class AccountLimits:
    """An account's own limits, None where the installation's apply, and its suspension, if any.

    `entry_id` is the number of the audit entry of the change, None if nothing changed.
    """

    requests_per_minute: int | None
    concurrent_requests: int | None
    suspended_at: datetime | None
    entry_id: int | None = None

    def figures(self) -> dict[str, Any]:
        """Return the limits and the time of the suspension by name."""
        figures = asdict(self)
        del figures["entry_id"]
        return figures


def of(user: User, entry_id: int | None = None) -> AccountLimits:
    return AccountLimits(
        user.requests_per_minute, user.concurrent_requests, user.suspended_at, entry_id
    )


def set_limits(user_id: int, changes: LimitChanges, *, operator: Operator) -> AccountLimits:
    """Set an account's limits; raises NotFound."""
    user = _locked(user_id)
    before = _chosen(user, changes)
    for name, value in changes.items():
        setattr(user, name, value)
    if before == changes:
        return of(user)
    entry_id = operator.record(
        "account.limit", user_id=user_id, before=before, after=_chosen(user, changes)
    )
    return of(user, entry_id)


def suspend(user_id: int, *, operator: Operator) -> AccountLimits:
    """Suspend an account, if it is not suspended already; raises NotFound."""
    return _set_suspended(user_id, utcnow(), "account.suspend", operator)


def resume(user_id: int, *, operator: Operator) -> AccountLimits:
    """End an account's suspension, if it is suspended; raises NotFound."""
    return _set_suspended(user_id, None, "account.resume", operator)


def read_rates(database: Database) -> dict[bytes, AccountRate]:
    """Return the rates of accounts that have their own, by the stored hash of each valid key.

    At most MOST_KEYS; the accounts beyond them, the newest, have the installation's rates.
    """
    rows = database.fetch_all(_RATES, {"limit": MOST_KEYS + 1})
    if len(rows) > MOST_KEYS:
        logger.warning("too many keys with rates of their own", extra={"most": MOST_KEYS})
    return {bytes(key_hash): AccountRate(*rate) for key_hash, *rate in rows[:MOST_KEYS]}


def _set_suspended(
    user_id: int, since: datetime | None, action: str, operator: Operator
) -> AccountLimits:
    user = _locked(user_id)
    was = user.suspended_at
    if (was is None) == (since is None):
        return of(user)
    user.suspended_at = since
    entry_id = operator.record(
        action, user_id=user_id, before={"suspended_at": was}, after={"suspended_at": since}
    )
    return of(user, entry_id)


def _locked(user_id: int) -> User:
    accounts.lock(user_id)
    user = db.session.get(User, user_id, populate_existing=True)
    if user is None or user.closed_at is not None:
        raise NotFound("There is no such account.")
    return user


def _chosen(user: User, changes: LimitChanges) -> dict[str, Any]:
    return {name: getattr(user, name) for name in changes}
