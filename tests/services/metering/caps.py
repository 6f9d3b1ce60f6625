"""Limits of keys in tests of metering: set, read, and moved into the past."""

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from promptly.models.states import CapPeriod
from promptly.services.accounts import key_limits
from promptly.services.accounts.key_limits import KeyLimitChanges
from promptly.transactions import transaction
from tests.services.metering.meter import Meter
from tests.support.books import Account


def set_limits(meter: Meter, account: Account, changes: KeyLimitChanges) -> key_limits.KeyLimits:
    with meter.books.app.app_context(), transaction():
        return key_limits.set_limits(account.user_id, account.key_id, changes)[1]


def set_cap(
    meter: Meter, account: Account, tokens: int | None, period: CapPeriod | None = CapPeriod.DAY
) -> key_limits.KeyLimits:
    return set_limits(
        meter, account, {"cap_tokens": tokens, "cap_period": period if tokens else None}
    )


def use(meter: Meter, account: Account) -> tuple[int, int, int]:
    """Return the key's used and held tokens, and its open holds."""
    row = row_of(meter, account)
    return row["used_tokens"], row["held_tokens"], row["open_holds"]


def row_of(meter: Meter, account: Account) -> dict[str, Any]:
    [row] = meter.books.rows(
        "SELECT * FROM key_limits WHERE key_id = :key_id", key_id=account.key_id
    )
    return row


def turn_back(meter: Meter, account: Account, days: int = 1) -> None:
    """Move the key's period and its charges into the past, as if so many days had gone by."""
    with meter.books.app.app_context(), transaction() as session:
        for statement in (
            "SELECT 1 FROM balances WHERE user_id = :user_id FOR UPDATE",
            "UPDATE usage_events SET created_at = created_at - CAST(:age AS interval)"
            " WHERE user_id = :user_id AND key_id = :key_id",
            "UPDATE key_limits SET period_start = period_start - CAST(:age AS interval)"
            " WHERE key_id = :key_id",
        ):
            session.execute(
                text(statement),
                {
                    "key_id": account.key_id,
                    "user_id": account.user_id,
                    "age": timedelta(days=days),
                },
            )
