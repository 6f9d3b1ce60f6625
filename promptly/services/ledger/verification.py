"""Verification of the books: recompute every balance, order and charge from its entries."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, text

from promptly.extensions import db
from promptly.models import LedgerVerification

# The nightly verification is due from this hour on (UTC), when few requests run.
HOUR = 3
# Number of results that are kept.
KEPT = 1000


@dataclass(frozen=True)
class Difference:
    """A stored figure of an account that differs from the sum of its entries."""

    user_id: int
    email: str
    figure: str
    stored: int
    expected: int


# One statement, so one snapshot: a request that settles concurrently is wholly in it or not at all.
_VERIFY = text("""
WITH entered AS (
    SELECT user_id, sum(paid_delta) AS paid, sum(trial_delta) AS trial
    FROM ledger_entries GROUP BY user_id
),
charged AS (
    SELECT user_id, sum(charged_paid) AS paid, sum(charged_trial) AS trial
    FROM usage_events GROUP BY user_id
),
held AS (
    SELECT user_id, sum(held_paid) AS paid, sum(held_trial) AS trial, count(*) AS holds
    FROM holds WHERE state = 'open' GROUP BY user_id
),
-- Each charge, with what the balance did not cover, is the cost of its counts by its price.
miscounted AS (
    SELECT user_id,
           'charges of ' || count(*) || ' requests, the first ' || min(request_id) AS figure,
           sum(stored) AS stored, sum(expected) AS expected
    FROM (
        SELECT e.user_id, 'req_' || replace(e.request_id::text, '-', '') AS request_id,
               e.charged_paid + e.charged_trial + e.uncharged_tokens AS stored,
               metering_cost(p, e.prompt_tokens, e.cached_prompt_tokens, e.completion_tokens)
                   AS expected
        FROM usage_events e LEFT JOIN prices p ON p.id = e.price_id
    ) AS recomputed
    WHERE stored IS DISTINCT FROM expected
    GROUP BY user_id
),
purchases AS (
    SELECT split_part(reference, '/', 1) AS number,
           coalesce(sum(paid_delta) FILTER (WHERE kind = 'purchase'), 0) AS credited,
           -coalesce(sum(paid_delta) FILTER (WHERE kind <> 'purchase'), 0) AS taken
    FROM ledger_entries
    WHERE kind IN ('purchase', 'purchase_reversed', 'purchase_restored')
    GROUP BY number
),
of_orders AS (
    SELECT o.user_id, o.number || ' ' || f.figure AS figure, f.stored, f.expected
    FROM orders o
    LEFT JOIN purchases p USING (number)
    CROSS JOIN LATERAL (VALUES
        (
            'credited',
            CASE WHEN o.credited_at IS NULL THEN 0 ELSE o.tokens END,
            coalesce(p.credited, 0)
        ),
        ('tokens_taken', o.tokens_taken, coalesce(p.taken, 0))
    ) AS f (figure, stored, expected)
    -- A deleted account's entries are gone with it.
    WHERE o.user_id IS NOT NULL AND f.stored <> f.expected
),
-- Of keys with limits, as far as they use their period's tokens.
of_keys AS (
    SELECT l.user_id, 'key ' || l.key_id || ' ' || f.figure AS figure, f.stored, f.expected
    FROM key_limits l
    LEFT JOIN (
        SELECT key_id, sum(held_paid + held_trial) AS held, count(*) AS holds
        FROM holds WHERE state = 'open' GROUP BY key_id
    ) AS h USING (key_id)
    LEFT JOIN (
        SELECT e.key_id, sum(e.charged_paid + e.charged_trial) AS charged
        FROM usage_events e JOIN key_limits k USING (key_id)
        WHERE e.created_at >= k.period_start
        GROUP BY e.key_id
    ) AS c USING (key_id)
    CROSS JOIN LATERAL (VALUES
        ('used_tokens', l.used_tokens, coalesce(c.charged, 0)),
        ('held_tokens', l.held_tokens, coalesce(h.held, 0)),
        ('open_holds', l.open_holds, coalesce(h.holds, 0))
    ) AS f (figure, stored, expected)
    WHERE f.stored <> f.expected
),
figures AS (
    SELECT b.user_id, f.figure, f.stored, f.expected
    FROM balances b
    LEFT JOIN entered e USING (user_id)
    LEFT JOIN charged c USING (user_id)
    LEFT JOIN held h USING (user_id)
    LEFT JOIN (
        SELECT user_id, count(*) AS keys FROM key_limits GROUP BY user_id
    ) AS k USING (user_id)
    CROSS JOIN LATERAL (VALUES
        ('paid_tokens', b.paid_tokens, coalesce(e.paid, 0) - coalesce(c.paid, 0)),
        ('trial_tokens', b.trial_tokens, coalesce(e.trial, 0) - coalesce(c.trial, 0)),
        ('held_paid', b.held_paid, coalesce(h.paid, 0)),
        ('held_trial', b.held_trial, coalesce(h.trial, 0)),
        ('open_holds', b.open_holds, coalesce(h.holds, 0)),
        ('limited_keys', b.limited_keys, coalesce(k.keys, 0))
    ) AS f (figure, stored, expected)
    WHERE f.stored <> f.expected
    UNION ALL
    SELECT user_id, figure, stored, expected FROM of_keys
    UNION ALL
    SELECT user_id, figure, stored, expected FROM of_orders
    UNION ALL
    SELECT user_id, figure, stored, coalesce(expected, 0) FROM miscounted
)
SELECT u.id, u.email, f.figure, f.stored, f.expected
FROM figures f JOIN users u ON u.id = f.user_id
ORDER BY u.id, f.figure
""")


def verify() -> list[Difference]:
    """Return each figure that differs from the sum of its entries, events and open holds.

    It reads all usage events, so it runs without the usual time limit.
    """
    db.session.execute(text("SET LOCAL statement_timeout = 0"))
    rows = db.session.execute(_VERIFY)
    return [Difference(row[0], row[1], row[2], int(row[3]), int(row[4])) for row in rows]


def count_accounts() -> int:
    """Return the number of balances that `verify` checks."""
    return db.session.scalar(text("SELECT count(*) FROM balances")) or 0


def is_due(now: datetime) -> bool:
    """Whether no verification has been recorded since the last time it became HOUR o'clock."""
    due_at = now.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    if due_at > now:
        due_at -= timedelta(days=1)
    last = newest()
    return last is None or last.started_at < due_at


def record(differences: int) -> None:
    """Record a verification that this transaction has run, and forget old results."""
    row = LedgerVerification(
        started_at=func.now(), finished_at=func.clock_timestamp(), differences=differences
    )
    db.session.add(row)
    db.session.flush()
    db.session.execute(delete(LedgerVerification).where(LedgerVerification.id <= row.id - KEPT))


def newest() -> LedgerVerification | None:
    """Return the result of the last recorded verification."""
    query = select(LedgerVerification).order_by(LedgerVerification.id.desc())
    return db.session.scalar(query.limit(1))
