"""Lots: every paid credit, spent oldest first, and how much of each is left.

Spending tokens writes nothing here. Since the oldest lot is spent first, an account's remaining
paid tokens belong to its newest lots, and the view `lots` computes each one's part from the
balance. Every removal of paid tokens that names no lot counts as spending.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from promptly.extensions import db


@dataclass(frozen=True)
class Lot:
    """One paid credit: its tokens, those of them taken back, and those unspent."""

    entry_id: int
    created_at: datetime
    kind: str
    reference: str | None
    tokens: int
    taken_tokens: int
    unspent_tokens: int


@dataclass(frozen=True)
class Remaining:
    """Tokens left of an order's lot, and those of them that no running request holds."""

    unspent_tokens: int
    free_tokens: int


_COLUMNS = "id, created_at, kind, reference, tokens, taken_tokens, unspent_tokens"
_OF_ACCOUNT = text(f"SELECT {_COLUMNS} FROM lots WHERE user_id = :user_id ORDER BY id")  # noqa: S608

_LOCK = text("SELECT paid_tokens - held_paid FROM balances WHERE user_id = :user_id FOR UPDATE")
_READ = text("SELECT paid_tokens - held_paid FROM balances WHERE user_id = :user_id")
_UNSPENT = text("""
SELECT unspent_tokens FROM lots
WHERE user_id = :user_id AND kind = 'purchase' AND reference = :number
""")


def of_account(user_id: int) -> list[Lot]:
    """Return all lots of an account, oldest first."""
    return [Lot(*row) for row in db.session.execute(_OF_ACCOUNT, {"user_id": user_id})]


def remaining(user_id: int, number: str, *, lock: bool) -> Remaining:
    """Return what is left of an order's lot; with `lock`, exact until the transaction ends."""
    parameters = {"user_id": user_id, "number": number}
    db.session.flush()
    # A separate statement, so that the next one's snapshot is as new as the lock.
    free = db.session.scalar(_LOCK if lock else _READ, parameters) or 0
    unspent = db.session.scalar(_UNSPENT, parameters) or 0
    return Remaining(unspent_tokens=unspent, free_tokens=min(unspent, free))
