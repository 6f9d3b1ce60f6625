"""Operators' adjustments and grants: ledger entry and audit entry in one transaction.

A reference makes an act idempotent per account: repeating it changes nothing and returns the
change of the first time, with the current balance.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.exc import DataError

from promptly.errors import InvalidRequest, NotFound
from promptly.extensions import db
from promptly.models import LedgerEntry
from promptly.services import audit
from promptly.services.audit import Operator
from promptly.services.ledger import ledger
from promptly.services.ledger.ledger import Change

ADJUSTMENT, GRANT = "adjustment", "grant"
# The largest integer that JSON carries exactly to every language.
MOST_TOKENS = 2**53 - 1
MOST_DAYS = 3650

_STANDING = text("""
SELECT paid_tokens, trial_tokens, trial_expires_at FROM balances WHERE user_id = :user_id FOR UPDATE
""")


@dataclass(frozen=True)
class Credit:
    """The change that an act made, and the number of its entry in the audit log."""

    change: Change
    entry_id: int | None


def adjust(
    user_id: int, delta_tokens: int, *, operator: Operator, reference: str | None = None
) -> Credit:
    """Add paid tokens, or take away as many as exist and are not held.

    Raises NotFound, and InvalidRequest (param `delta` or `reference`).
    """

    def change(known_as: str | None) -> Change:
        actor = operator.actor
        return ledger.adjust(user_id, delta_tokens, actor=actor, reference=known_as)

    return _once(user_id, ADJUSTMENT, "balance.adjust", "delta", change, operator, reference)


def grant(
    user_id: int, tokens: int, days: int, *, operator: Operator, reference: str | None = None
) -> Credit:
    """Grant trial tokens that expire in `days` days, or with the current trial if that is later.

    Raises NotFound, and InvalidRequest (param `tokens` or `reference`).
    """

    def change(known_as: str | None) -> Change:
        actor = operator.actor
        return ledger.grant(user_id, tokens, days, actor=actor, reference=known_as)

    return _once(user_id, GRANT, "balance.grant", "tokens", change, operator, reference)


def standing(user_id: int) -> dict[str, Any]:
    """Return an account's tokens, with its balance locked and an expired trial taken back.

    Raises NotFound.
    """
    parameters = {"user_id": user_id}
    if db.session.execute(_STANDING, parameters).first() is None:
        raise NotFound("There is no such account.")
    ledger.lapse(user_id=user_id)
    return dict(db.session.execute(_STANDING, parameters).mappings().one())


def _once(
    user_id: int,
    kind: str,
    action: str,
    param: str,
    change: Callable[[str | None], Change],
    operator: Operator,
    reference: str | None,
) -> Credit:
    before = standing(user_id)
    # Includes the account, because the ledger's references are unique across accounts.
    known_as = None if reference is None else f"operator:{user_id}:{reference}"
    if known_as is not None:
        entry = _entry(kind, known_as)
        if entry is not None:
            done = Change(user_id, entry.paid_delta + entry.trial_delta, **before)
            return Credit(done, audit.find_act(action, user_id, reference))
    try:
        made = change(known_as)
    except DataError as problem:
        # PostgreSQL raises it for a sum beyond the column's range.
        raise InvalidRequest("The balance would be too large.", param=param) from problem
    if made.trial_tokens == 0:
        made = replace(made, trial_expires_at=None)
    entry_id = operator.record(
        action,
        user_id=user_id,
        subject=reference,
        before=before,
        after={
            "paid_tokens": made.paid_tokens,
            "trial_tokens": made.trial_tokens,
            "trial_expires_at": made.trial_expires_at,
            "applied_delta": made.applied_delta,
        },
    )
    return Credit(made, entry_id)


def _entry(kind: str, reference: str) -> LedgerEntry | None:
    query = select(LedgerEntry).where(LedgerEntry.kind == kind, LedgerEntry.reference == reference)
    return db.session.scalar(query)
