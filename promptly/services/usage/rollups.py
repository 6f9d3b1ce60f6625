"""An account's usage: daily totals, receipts, and the roll-ups behind them.

Roll-ups are a cache of usage events. How far they are complete is stored with them, in the same
transaction: days before `WATERMARK` come from roll-ups, later ones are summed from the events, so
the figures are exact at any moment, also before the first roll-up ever ran.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import select, text

from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import UsageEvent
from promptly.request_ids import parse_id, public_id, started_at_ms
from promptly.services.ledger.balances import iso

# Each roll-up rebuilds today and the days before it, for requests that settle late.
REBUILT_DAYS = 3
# Limits of a settlement's time relative to its request's start: before it only because the clocks
# of two machines may differ.
EARLIEST = timedelta(hours=1)
LATEST = timedelta(days=31)

SWEEP_NAME = "usage_roll_up"

# The first day that the newest roll-up may have seen incomplete.
WATERMARK = f"""
SELECT coalesce(
    (SELECT (last_run_at AT TIME ZONE 'UTC')::date - {REBUILT_DAYS - 1}
     FROM sweep_states WHERE name = '{SWEEP_NAME}'),
    '-infinity'::date
) AS day
"""  # noqa: S608 - two constants of this module

_DAILY = text(f"""
WITH live AS ({WATERMARK}),
days AS (
    SELECT r.day, r.requests, r.prompt_tokens, r.cached_prompt_tokens, r.completion_tokens,
           r.charged_tokens
    FROM usage_rollups r, live
    WHERE r.user_id = :user_id AND r.day BETWEEN :start AND :end AND r.day < live.day
    UNION ALL
    SELECT (e.created_at AT TIME ZONE 'UTC')::date, 1, e.prompt_tokens, e.cached_prompt_tokens,
           e.completion_tokens, e.charged_paid + e.charged_trial
    FROM usage_events e
    WHERE e.user_id = :user_id AND e.created_at >= :first_moment AND e.created_at < :last_moment
      AND e.created_at >= (SELECT day::timestamp AT TIME ZONE 'UTC' FROM live)
)
SELECT day, sum(requests), sum(prompt_tokens), sum(cached_prompt_tokens),
       sum(completion_tokens), sum(charged_tokens)
FROM days GROUP BY day ORDER BY day
""")  # noqa: S608

# Lock and write only rows that differ, in the order of their key, in which the deletion of an
# account locks them too. Events from before migration 0007 may have negative counts.
_ROLL_UP = text("""
WITH fresh AS MATERIALIZED (
    SELECT user_id, (created_at AT TIME ZONE 'UTC')::date AS day, model, count(*) AS requests,
           greatest(sum(prompt_tokens), 0) AS prompt_tokens,
           sum(cached_prompt_tokens) AS cached_prompt_tokens,
           greatest(sum(completion_tokens), 0) AS completion_tokens,
           greatest(sum(charged_paid + charged_trial), 0) AS charged_tokens
    FROM usage_events
    WHERE created_at >= CAST(:first_day AS timestamp) AT TIME ZONE 'UTC'
    GROUP BY 1, 2, 3
),
known AS MATERIALIZED (
    SELECT * FROM usage_rollups WHERE day >= :first_day
),
gone AS (
    DELETE FROM usage_rollups r USING (
        SELECT user_id, day, model FROM known EXCEPT SELECT user_id, day, model FROM fresh
    ) AS stale
    WHERE r.user_id = stale.user_id AND r.day = stale.day AND r.model = stale.model
    RETURNING r.user_id
),
changed AS MATERIALIZED (
    SELECT f.*
    FROM fresh f LEFT JOIN known k USING (user_id, day, model)
    WHERE (f.requests, f.prompt_tokens, f.cached_prompt_tokens, f.completion_tokens,
           f.charged_tokens)
       IS DISTINCT FROM
          (k.requests, k.prompt_tokens, k.cached_prompt_tokens, k.completion_tokens,
           k.charged_tokens)
    ORDER BY user_id, day, model
),
written AS (
    INSERT INTO usage_rollups
        (user_id, day, model, requests, prompt_tokens, cached_prompt_tokens, completion_tokens,
         charged_tokens)
    SELECT user_id, day, model, requests, prompt_tokens, cached_prompt_tokens, completion_tokens,
           charged_tokens
    FROM changed
    ON CONFLICT (user_id, day, model) DO UPDATE
    SET requests = excluded.requests,
        prompt_tokens = excluded.prompt_tokens,
        cached_prompt_tokens = excluded.cached_prompt_tokens,
        completion_tokens = excluded.completion_tokens,
        charged_tokens = excluded.charged_tokens
    RETURNING user_id
)
SELECT user_id FROM gone UNION SELECT user_id FROM written
""")

_LAST_RUN = text("SELECT last_run_at FROM sweep_states WHERE name = :name")
_NOTE_RUN = text("""
INSERT INTO sweep_states (name, last_run_at) VALUES (:name, now())
ON CONFLICT (name) DO UPDATE SET last_run_at = greatest(sweep_states.last_run_at, now())
RETURNING last_run_at
""")


@dataclass(frozen=True)
class RolledUp:
    """Result of a roll-up: the first day that it rebuilt, and the accounts whose rows changed.

    `follows_at` is the moment of the previous roll-up, `at` its own.
    """

    first_day: date
    changed_accounts: list[int]
    follows_at: datetime | None
    at: datetime


def daily(user_id: int, start: date, end: date) -> list[dict[str, Any]]:
    """Return totals of each UTC day with requests from `start` to `end`, both included."""
    rows = db.session.execute(
        _DAILY,
        {
            "user_id": user_id,
            **bounds(start, end),
        },
    )
    return [
        {
            "date": row[0].isoformat(),
            "requests": int(row[1]),
            "prompt_tokens": int(row[2]),
            "cached_prompt_tokens": int(row[3]),
            "completion_tokens": int(row[4]),
            "charged_tokens": int(row[5]),
        }
        for row in rows
    ]


def bounds(start: date, end: date) -> dict[str, Any]:
    """Return the parameters of statements that read the days from `start` to `end`."""
    return {
        "start": start,
        "end": end,
        # Literal bounds, so that PostgreSQL reads only the partitions of these months.
        "first_moment": datetime(start.year, start.month, start.day, tzinfo=UTC),
        "last_moment": datetime(end.year, end.month, end.day, tzinfo=UTC) + timedelta(days=1),
    }


def receipt(user_id: int, request_id: str) -> dict[str, Any]:
    """Return the receipt of a settled request of this account, for the API; raises NotFound."""
    return described(find_event(user_id, request_id))


def find_event(user_id: int, request_id: str) -> UsageEvent:
    """Return the usage event of a settled request of this account; raises NotFound.

    `request_id` is the public one; the timestamp in it selects the partition.
    """
    parsed = parse_id(request_id)
    started_ms = started_at_ms(parsed) if parsed is not None else 0
    # A foreign id can encode any timestamp, even beyond datetime's range; reject those after 2191.
    if parsed is None or started_ms > 7_000_000_000_000:
        raise NotFound("There is no receipt for this request.", param="request_id")
    started_at = datetime.fromtimestamp(started_ms / 1000, UTC)
    query = select(UsageEvent).where(
        UsageEvent.request_id == parsed,
        UsageEvent.user_id == user_id,
        UsageEvent.created_at >= started_at - EARLIEST,
        UsageEvent.created_at < started_at + LATEST,
    )
    event = db.session.scalar(query)
    if event is None:
        raise NotFound("There is no receipt for this request.", param="request_id")
    return event


def recent(user_id: int, limit: int = 20) -> list[dict[str, Any]]:
    """Return the receipts of an account's newest requests, newest first."""
    query = (
        select(UsageEvent)
        .where(UsageEvent.user_id == user_id)
        .order_by(UsageEvent.created_at.desc(), UsageEvent.request_id.desc())
        .limit(limit)
    )
    return [described(event) for event in db.session.scalars(query)]


def described(event: UsageEvent) -> dict[str, Any]:
    """Return the receipt of a usage event, for the API."""
    return {
        "object": "receipt",
        "request_id": public_id(event.request_id),
        "created_at": iso(event.created_at),
        "endpoint": event.endpoint,
        "model": event.model,
        "outcome": event.outcome,
        "prompt_tokens": event.prompt_tokens,
        "cached_prompt_tokens": event.cached_prompt_tokens,
        "completion_tokens": event.completion_tokens,
        "price": str(event.price_version.price),
        "charged_tokens": event.charged_paid + event.charged_trial,
        "uncharged_tokens": event.uncharged_tokens,
        "balance_tokens": event.balance_tokens,
        "time_to_first_token_ms": event.time_to_first_token_ms,
        "duration_ms": event.duration_ms,
    }


def first_rebuilt_day() -> date:
    """Return the first day that the next roll-up rebuilds; no later one rebuilds earlier days."""
    first_day: date = db.session.execute(
        text(f"""
            SELECT least(
                (now() AT TIME ZONE 'UTC')::date - {REBUILT_DAYS - 1},
                CASE WHEN isfinite(live.day) THEN live.day
                     ELSE (SELECT (min(created_at) AT TIME ZONE 'UTC')::date FROM usage_events)
                END
            ) FROM ({WATERMARK}) AS live
        """)  # noqa: S608
    ).scalar_one()
    return first_day


def roll_up() -> RolledUp:
    """Rebuild the roll-ups of the last days, and of all days that were missed; idempotent."""
    db.session.execute(text("SET LOCAL statement_timeout = '180s'"))
    first_day = first_rebuilt_day()
    changed = db.session.scalars(_ROLL_UP, {"first_day": first_day}).all()
    before = db.session.scalar(_LAST_RUN, {"name": SWEEP_NAME})
    noted = db.session.execute(_NOTE_RUN, {"name": SWEEP_NAME}).scalar_one()
    return RolledUp(first_day, list(changed), follows_at=before, at=noted)
