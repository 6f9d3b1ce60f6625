"""Lots: every paid credit, spent oldest first, and how much of each is left.

Nothing is written when tokens are spent. Since the oldest lot is spent first, what an account still
has of its paid tokens belongs to its newest lots, and the view `lots` computes each one's part from
the balance. Whatever takes paid tokens away without naming a lot counts as spending.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from promptly.extensions import db


@dataclass(frozen=True)
class Lot:
    """One paid credit: its size, what was taken back of it, and what is unspent; tokens."""

    entry_id: int
    created_at: datetime
    kind: str
    reference: str | None
    tokens: int
    taken_tokens: int
    unspent_tokens: int


@dataclass(frozen=True)
class Remaining:
    """What is left of an order's lot, and how much of that no running request holds."""

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
    """All lots of an account, oldest first."""
    return [Lot(*row) for row in db.session.execute(_OF_ACCOUNT, {"user_id": user_id})]


def remaining(user_id: int, number: str, *, lock: bool) -> Remaining:
    """What is left of the lot of the order `number`; exact until the transaction ends if locked."""
    parameters = {"user_id": user_id, "number": number}
    db.session.flush()
    # A statement of its own: what the next one sees is then as new as the lock.
    free = db.session.scalar(_LOCK if lock else _READ, parameters) or 0
    unspent = db.session.scalar(_UNSPENT, parameters) or 0
    return Remaining(unspent_tokens=unspent, free_tokens=min(unspent, free))
