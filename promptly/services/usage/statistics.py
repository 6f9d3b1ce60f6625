"""Totals for the operator's panel: per day over all accounts, and each account's last days.

The roll-up task rebuilds them from usage events and roll-ups, in the same transaction. Unchanged
rows are not written, and days that are not rebuilt keep their totals, even when an account with
usage on those days is deleted.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import text

from promptly.clock import utcnow
from promptly.extensions import db
from promptly.services.usage.rollups import RolledUp

# The meaning of "recently" on every page: today and the days before it.
ACTIVITY_DAYS = 30

SWEEP_NAME = "account_activity"

_MADE_BEFORE = text("SELECT EXISTS (SELECT FROM daily_totals)")
_FIRST_EVENT = text("SELECT (min(created_at) AT TIME ZONE 'UTC')::date FROM usage_events")

_DAYS = text("""
WITH ended AS MATERIALIZED (
    SELECT (created_at AT TIME ZONE 'UTC')::date AS day, outcome, count(*) AS requests,
           sum(prompt_tokens) AS prompt_tokens,
           sum(cached_prompt_tokens) AS cached_prompt_tokens,
           sum(completion_tokens) AS completion_tokens,
           sum(charged_paid + charged_trial) AS charged_tokens,
           sum(uncharged_tokens) AS uncharged_tokens, sum(duration_ms) AS duration_ms
    FROM usage_events WHERE created_at >= :first_moment GROUP BY 1, 2
),
active AS (
    SELECT day, count(DISTINCT user_id) AS accounts
    FROM usage_rollups WHERE day >= :first_day GROUP BY day
),
outcomes_gone AS (
    DELETE FROM daily_outcomes o
    WHERE o.day >= :first_day AND NOT EXISTS (
        SELECT FROM ended e WHERE e.day = o.day AND e.outcome = o.outcome
    )
),
outcomes AS (
    INSERT INTO daily_outcomes AS o (day, outcome, requests)
    SELECT day, outcome, requests FROM ended
    ON CONFLICT (day, outcome) DO UPDATE SET requests = excluded.requests
    WHERE o.requests <> excluded.requests
),
totals_gone AS (
    DELETE FROM daily_totals t
    WHERE t.day >= :first_day AND NOT EXISTS (SELECT FROM ended e WHERE e.day = t.day)
)
INSERT INTO daily_totals AS t
    (day, requests, prompt_tokens, cached_prompt_tokens, completion_tokens, charged_tokens,
     uncharged_tokens, active_accounts, duration_ms)
SELECT e.day, sum(e.requests), sum(e.prompt_tokens), sum(e.cached_prompt_tokens),
       sum(e.completion_tokens), sum(e.charged_tokens), sum(e.uncharged_tokens),
       coalesce(max(a.accounts), 0), sum(e.duration_ms)
FROM ended e LEFT JOIN active a USING (day)
GROUP BY e.day
ON CONFLICT (day) DO UPDATE
SET requests = excluded.requests,
    prompt_tokens = excluded.prompt_tokens,
    cached_prompt_tokens = excluded.cached_prompt_tokens,
    completion_tokens = excluded.completion_tokens,
    charged_tokens = excluded.charged_tokens,
    uncharged_tokens = excluded.uncharged_tokens,
    active_accounts = excluded.active_accounts,
    duration_ms = excluded.duration_ms
WHERE (t.requests, t.prompt_tokens, t.cached_prompt_tokens, t.completion_tokens,
       t.charged_tokens, t.uncharged_tokens, t.active_accounts, t.duration_ms)
   IS DISTINCT FROM
      (excluded.requests, excluded.prompt_tokens, excluded.cached_prompt_tokens,
       excluded.completion_tokens, excluded.charged_tokens, excluded.uncharged_tokens,
       excluded.active_accounts, excluded.duration_ms)
""")

# Lock accounts only where a row is new, and skip those being deleted: otherwise this statement and
# a deletion could wait for each other. `{of_accounts}` narrows each part to the changed accounts.
_ACTIVITY = """
WITH used AS MATERIALIZED (
    SELECT user_id, sum(requests) AS requests, sum(prompt_tokens + completion_tokens) AS tokens
    FROM usage_rollups WHERE day >= :window_start {of_accounts} GROUP BY user_id
),
newest AS MATERIALIZED (
    SELECT user_id, max(created_at) AS last_request_at
    FROM usage_events WHERE created_at >= :first_moment {of_accounts} GROUP BY user_id
),
wanted AS MATERIALIZED (
    SELECT a.user_id, coalesce(u.requests, 0) AS requests, coalesce(u.tokens, 0) AS tokens,
           greatest(a.last_request_at, n.last_request_at) AS last_request_at
    FROM account_activity a LEFT JOIN used u USING (user_id) LEFT JOIN newest n USING (user_id)
    WHERE (a.requests, a.tokens, a.last_request_at)
       IS DISTINCT FROM (coalesce(u.requests, 0), coalesce(u.tokens, 0),
                         greatest(a.last_request_at, n.last_request_at))
      {of_accounts}
),
changed AS (
    UPDATE account_activity a
    SET requests = w.requests, tokens = w.tokens, last_request_at = w.last_request_at
    FROM wanted w WHERE a.user_id = w.user_id
)
INSERT INTO account_activity (user_id, requests, tokens, last_request_at)
SELECT id, coalesce(u.requests, 0), coalesce(u.tokens, 0), n.last_request_at
FROM (
    SELECT id FROM users
    WHERE (id IN (SELECT user_id FROM used) OR id IN (SELECT user_id FROM newest))
      AND NOT EXISTS (SELECT FROM account_activity a WHERE a.user_id = users.id)
    FOR KEY SHARE SKIP LOCKED
) AS fresh
LEFT JOIN used u ON u.user_id = fresh.id LEFT JOIN newest n ON n.user_id = fresh.id
ON CONFLICT (user_id) DO NOTHING
"""
_WHOLE_ACTIVITY = text(_ACTIVITY.format(of_accounts=""))
_CHANGED_ACTIVITY = text(_ACTIVITY.format(of_accounts="AND user_id = ANY(:accounts)"))

_NOTED = text("SELECT last_run_at FROM sweep_states WHERE name = :name")
_NOTE = text("""
INSERT INTO sweep_states (name, last_run_at) VALUES (:name, :at)
ON CONFLICT (name) DO UPDATE SET last_run_at = excluded.last_run_at
""")

# All days: a refund changes the day of its purchase, however long ago.
_REVENUE = text("""
WITH sold AS MATERIALIZED (
    SELECT (credited_at AT TIME ZONE 'UTC')::date AS day, currency, livemode,
           count(*) AS purchases, sum(amount_minor) AS amount_minor,
           sum(reversed_minor) AS reversed_minor
    FROM orders WHERE credited_at IS NOT NULL GROUP BY 1, 2, 3
),
gone AS (
    DELETE FROM daily_revenue r WHERE NOT EXISTS (
        SELECT FROM sold s
        WHERE s.day = r.day AND s.currency = r.currency AND s.livemode = r.livemode
    )
)
INSERT INTO daily_revenue AS r
    (day, currency, livemode, purchases, amount_minor, reversed_minor)
SELECT day, currency, livemode, purchases, amount_minor, reversed_minor FROM sold
ON CONFLICT (day, currency, livemode) DO UPDATE
SET purchases = excluded.purchases,
    amount_minor = excluded.amount_minor,
    reversed_minor = excluded.reversed_minor
WHERE (r.purchases, r.amount_minor, r.reversed_minor)
   IS DISTINCT FROM (excluded.purchases, excluded.amount_minor, excluded.reversed_minor)
""")

_DAILY = text("""
SELECT day, requests, prompt_tokens, cached_prompt_tokens, completion_tokens, charged_tokens,
       uncharged_tokens, active_accounts, duration_ms
FROM daily_totals WHERE day BETWEEN :start AND :end ORDER BY day
""")

_OUTCOMES = text("""
SELECT day, outcome, requests FROM daily_outcomes WHERE day BETWEEN :start AND :end ORDER BY day
""")

_SOLD = text("""
SELECT day, currency, livemode, purchases, amount_minor, reversed_minor
FROM daily_revenue WHERE day BETWEEN :start AND :end ORDER BY livemode DESC, currency, day
""")


def refresh(rolled_up: RolledUp) -> None:
    """Update all totals after a roll-up, in its transaction; idempotent.

    The first run ever builds them from all usage events.
    """
    first_day: date | None = rolled_up.first_day
    if not db.session.scalar(_MADE_BEFORE):
        first_day = db.session.scalar(_FIRST_EVENT)
    if first_day is not None:
        first_moment = _midnight(first_day)
        db.session.execute(_DAYS, {"first_day": first_day, "first_moment": first_moment})
        _refresh_activity(rolled_up, first_moment)
    db.session.execute(_REVENUE)


def recount() -> None:
    """Have the next refresh count every account's recent usage, not only the changed ones."""
    statement = text("DELETE FROM sweep_states WHERE name = :name")
    db.session.execute(statement, {"name": SWEEP_NAME})


def daily(start: date, end: date) -> list[dict[str, Any]]:
    """Return the totals of each UTC day with requests from `start` to `end`, both included."""
    return [dict(row) for row in db.session.execute(_DAILY, _range(start, end)).mappings()]


def outcomes(start: date, end: date) -> list[dict[str, Any]]:
    """Return how requests ended: a row (day, outcome, requests) for each day and outcome."""
    return [dict(row) for row in db.session.execute(_OUTCOMES, _range(start, end)).mappings()]


def revenue(start: date, end: date) -> list[dict[str, Any]]:
    """Return sales: a row for each day, currency and mode, live mode first; minor units."""
    return [dict(row) for row in db.session.execute(_SOLD, _range(start, end)).mappings()]


def _refresh_activity(rolled_up: RolledUp, first_moment: datetime) -> None:
    today = utcnow().date()
    parameters: dict[str, Any] = {
        "window_start": today - timedelta(days=ACTIVITY_DAYS - 1),
        "first_moment": first_moment,
    }
    noted: datetime | None = db.session.scalar(_NOTED, {"name": SWEEP_NAME})
    # The changed accounts are known only if this followed every roll-up and no day has left the
    # window. Otherwise count all accounts, which happens at least once a day.
    if noted is None or noted != rolled_up.follows_at or noted.date() != today:
        db.session.execute(_WHOLE_ACTIVITY, parameters)
    elif rolled_up.changed_accounts:
        parameters["accounts"] = rolled_up.changed_accounts
        db.session.execute(_CHANGED_ACTIVITY, parameters)
    db.session.execute(_NOTE, {"name": SWEEP_NAME, "at": rolled_up.at})


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _range(start: date, end: date) -> dict[str, date]:
    return {"start": start, "end": end}
