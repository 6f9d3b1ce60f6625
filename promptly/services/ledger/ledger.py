"""Every change of a balance except charges for usage, each with its ledger entry.

A change is one statement: it locks the balance, limits the change to tokens that are not held,
adds the entry and updates the balance. Amounts are tokens, signed. Kinds: `trial_grant`, `grant`,
`adjustment`, `trial_lapse`; `purchase`, `purchase_reversed` and `purchase_restored` for orders;
`import` for tokens from another gateway; the operators' SQL view writes `operator_sql`, dropping
old usage events writes `usage_closing`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text

from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import LedgerEntry
from promptly.services.paging import START, Cursor, Page, newest_first


@dataclass(frozen=True)
class Change:
    """The tokens that a change gave or took, and the balance after it."""

    user_id: int
    applied_delta: int
    paid_tokens: int
    trial_tokens: int
    trial_expires_at: datetime | None


# PostgreSQL checks constraints on the row of the statement's snapshot plus the change, and only
# then notices a concurrent update. So every column that a constraint reads is set from the locked
# row `o`, never from `b`: otherwise a race would raise a false CheckViolation.
_APPLY = text("""
WITH owned AS MATERIALIZED (
    SELECT user_id, paid_tokens, trial_tokens, held_paid, held_trial,
           greatest(CAST(:paid_delta AS bigint), held_paid - paid_tokens) AS paid_delta,
           greatest(CAST(:trial_delta AS bigint), held_trial - trial_tokens) AS trial_delta
    FROM balances WHERE user_id = :user_id FOR UPDATE
),
entry AS (
    INSERT INTO ledger_entries (user_id, kind, paid_delta, trial_delta, reference, actor)
    SELECT user_id, :kind, paid_delta, trial_delta, :reference, :actor
    FROM owned WHERE paid_delta <> 0 OR trial_delta <> 0
    -- An entry whose reference is known changes nothing: an act credited once stays once.
    ON CONFLICT (kind, reference) WHERE reference IS NOT NULL DO NOTHING
    RETURNING user_id
)
UPDATE balances b
SET paid_tokens = o.paid_tokens + o.paid_delta,
    trial_tokens = o.trial_tokens + o.trial_delta,
    held_paid = o.held_paid,
    held_trial = o.held_trial,
    -- A missing end counts for nothing here.
    trial_expires_at = greatest(
        b.trial_expires_at,
        now() + make_interval(days => CAST(:days AS integer)),
        CAST(:expires_at AS timestamptz)
    )
FROM owned o JOIN entry e USING (user_id)
WHERE b.user_id = o.user_id
RETURNING b.user_id, o.paid_delta + o.trial_delta, b.paid_tokens, b.trial_tokens,
          b.trial_expires_at
""")

_READ = text("""
SELECT user_id, 0, paid_tokens, trial_tokens, trial_expires_at
FROM balances WHERE user_id = :user_id
""")

# An expired trial must be taken back before new trial tokens give it another end.
_LAPSE = text("""
WITH due AS MATERIALIZED (
    SELECT user_id, paid_tokens, held_paid, held_trial, trial_tokens - held_trial AS lapsed
    FROM balances
    WHERE trial_expires_at <= now() AND trial_tokens > held_trial
      AND (CAST(:user_id AS bigint) IS NULL OR user_id = :user_id)
    ORDER BY user_id
    LIMIT :batch
    FOR UPDATE SKIP LOCKED
),
entry AS (
    INSERT INTO ledger_entries (user_id, kind, trial_delta, actor)
    SELECT user_id, 'trial_lapse', -lapsed, 'system' FROM due
)
UPDATE balances b
SET trial_tokens = d.held_trial, held_trial = d.held_trial,
    paid_tokens = d.paid_tokens, held_paid = d.held_paid
FROM due d WHERE b.user_id = d.user_id
RETURNING b.user_id, d.lapsed
""")


def adjust(
    user_id: int,
    delta_tokens: int,
    *,
    actor: str,
    kind: str = "adjustment",
    reference: str | None = None,
) -> Change:
    """Add paid tokens, or take away as many as are not held.

    `applied_delta` is the actual change: 0 if nothing was left to take, or if an entry of this
    kind and reference exists already. Raises NotFound if the account does not exist.
    """
    return _apply(user_id, kind, paid_delta=delta_tokens, reference=reference, actor=actor)


def grant(
    user_id: int,
    tokens: int,
    days: int,
    *,
    actor: str,
    kind: str = "grant",
    reference: str | None = None,
) -> Change:
    """Grant trial tokens that expire in `days` days, or with the current trial if that is later.

    Raises NotFound if the account does not exist.
    """
    _lock(user_id)
    lapse(user_id=user_id)
    return _apply(user_id, kind, trial_delta=tokens, days=days, reference=reference, actor=actor)


def carry_over(
    user_id: int,
    paid_delta: int,
    trial_delta: int,
    trial_expires_at: datetime | None,
    *,
    reference: str,
    actor: str,
) -> Change:
    """Book what an account owns in another gateway, or how that has changed since.

    A deduction stops at tokens that are held or gone. Raises NotFound if the account does not
    exist.
    """
    if trial_delta:
        _lock(user_id)
        lapse(user_id=user_id)
    return _apply(
        user_id,
        "import",
        paid_delta=paid_delta,
        trial_delta=trial_delta,
        expires_at=trial_expires_at,
        reference=reference,
        actor=actor,
    )


def lapse(*, user_id: int | None = None, batch: int = 500) -> list[tuple[int, int]]:
    """Take back the parts of expired trials that are not held; return (user id, tokens) of each.

    Skips balances that are locked; a later call takes them back.
    """
    rows = db.session.execute(_LAPSE, {"user_id": user_id, "batch": batch})
    return [(row[0], row[1]) for row in rows]


def entries(user_id: int, limit: int = 100) -> list[LedgerEntry]:
    """Return an account's newest entries, newest first."""
    return page(user_id, limit).rows


def page(user_id: int, limit: int, at: Cursor = START) -> Page[LedgerEntry]:
    """Return a page of an account's entries, newest first."""
    query = select(LedgerEntry).where(LedgerEntry.user_id == user_id)
    return newest_first(query, LedgerEntry.id, limit, at)


def _lock(user_id: int) -> None:
    statement = text("SELECT 1 FROM balances WHERE user_id = :user_id FOR UPDATE")
    db.session.execute(statement, {"user_id": user_id})


def _apply(
    user_id: int,
    kind: str,
    *,
    paid_delta: int = 0,
    trial_delta: int = 0,
    days: int | None = None,
    expires_at: datetime | None = None,
    reference: str | None,
    actor: str,
) -> Change:
    parameters: dict[str, Any] = {
        "user_id": user_id,
        "kind": kind,
        "paid_delta": paid_delta,
        "trial_delta": trial_delta,
        "days": days,
        "expires_at": expires_at,
        "reference": reference,
        "actor": actor,
    }
    db.session.flush()
    row = db.session.execute(_APPLY, parameters).first()
    if row is None:
        row = db.session.execute(_READ, {"user_id": user_id}).first()
    if row is None:
        raise NotFound("There is no such account.")
    db.session.expire_all()
    return Change(*row)
