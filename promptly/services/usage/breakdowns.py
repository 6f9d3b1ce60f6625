"""An account's usage by day, key, model, endpoint and outcome, and the roll-up behind it.

As with the daily totals, days before a watermark come from the roll-up, later ones from the
events. Requests that only the daily totals know (from before this roll-up, or imported) are those
of an unknown key, endpoint and outcome, so that all groups together equal the daily totals.
"""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any, Literal, get_args

from sqlalchemy import text

from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.services.usage import rollups
from promptly.services.usage.rollups import REBUILT_DAYS

Group = Literal["day", "key", "model", "endpoint", "outcome"]
GROUPS: tuple[Group, ...] = get_args(Group)
MOST_ROWS = 10_000

SWEEP_NAME = "usage_break_down"
TOTALS = (
    *("requests", "prompt_tokens", "cached_prompt_tokens", "completion_tokens"),
    "charged_tokens",
)
_COLUMNS = {group: "key_id" if group == "key" else group for group in GROUPS}
_SUMS = ", ".join(f"sum({name})::bigint AS {name}" for name in TOTALS)

# The first day that the newest roll-up may have seen incomplete; NULL before the first one.
_OWN_WATERMARK = f"""
SELECT (last_run_at AT TIME ZONE 'UTC')::date - {REBUILT_DAYS - 1}
FROM sweep_states WHERE name = '{SWEEP_NAME}'
"""  # noqa: S608 - constants of this module

# The same for both roll-ups, this one and that of the daily totals. `least` ignores NULL.
WATERMARK = f"""
SELECT least(day, ({_OWN_WATERMARK})) AS day FROM ({rollups.WATERMARK}) AS of_totals
"""  # noqa: S608

_USED = f"""
WITH live AS ({WATERMARK}),
known AS (
    SELECT day, key_id, model, endpoint, outcome, {", ".join(TOTALS)}
    FROM usage_breakdowns
    WHERE user_id = :user_id AND day BETWEEN :start AND :end AND day < (SELECT day FROM live)
),
unknown AS (
    SELECT r.day, 0::bigint AS key_id, model, NULL AS endpoint, NULL AS outcome,
           {", ".join(f"greatest(r.{name} - coalesce(k.{name}, 0), 0)" for name in TOTALS)}
    FROM usage_rollups r
    LEFT JOIN (SELECT day, model, {_SUMS} FROM known GROUP BY day, model) AS k USING (day, model)
    WHERE r.user_id = :user_id AND r.day BETWEEN :start AND :end
      AND r.day < (SELECT day FROM live) AND r.requests > coalesce(k.requests, 0)
),
recent AS (
    SELECT (created_at AT TIME ZONE 'UTC')::date, coalesce(key_id, 0), model, endpoint, outcome,
           1, prompt_tokens, cached_prompt_tokens, completion_tokens, charged_paid + charged_trial
    FROM usage_events
    WHERE user_id = :user_id AND created_at >= :first_moment AND created_at < :last_moment
      AND created_at >= (SELECT day::timestamp AT TIME ZONE 'UTC' FROM live)
),
used AS (TABLE known UNION ALL TABLE unknown UNION ALL TABLE recent)
"""  # noqa: S608

# Accounts that are being deleted have their rows locked, and then have none: locking them here
# first, in order, keeps their usage from being written after they are gone.
_ROLL_UP = text(f"""
WITH fresh AS MATERIALIZED (
    SELECT user_id, (created_at AT TIME ZONE 'UTC')::date AS day, coalesce(key_id, 0) AS key_id,
           model, endpoint, outcome, count(*) AS requests,
           greatest(sum(prompt_tokens), 0) AS prompt_tokens,
           sum(cached_prompt_tokens) AS cached_prompt_tokens,
           greatest(sum(completion_tokens), 0) AS completion_tokens,
           greatest(sum(charged_paid + charged_trial), 0) AS charged_tokens
    FROM usage_events
    WHERE created_at >= CAST(:first_day AS timestamp) AT TIME ZONE 'UTC'
    GROUP BY 1, 2, 3, 4, 5, 6
),
known AS MATERIALIZED (
    SELECT * FROM usage_breakdowns WHERE day >= :first_day
),
stale AS MATERIALIZED (
    SELECT user_id, day, key_id, model, endpoint, outcome FROM known
    EXCEPT
    SELECT user_id, day, key_id, model, endpoint, outcome FROM fresh
),
changed AS MATERIALIZED (
    SELECT f.* FROM fresh f LEFT JOIN known k USING (user_id, day, key_id, model, endpoint, outcome)
    WHERE ({", ".join(f"f.{name}" for name in TOTALS)})
       IS DISTINCT FROM ({", ".join(f"k.{name}" for name in TOTALS)})
),
alive AS MATERIALIZED (
    SELECT u.id FROM users u
    WHERE u.id IN (SELECT user_id FROM stale UNION SELECT user_id FROM changed)
    ORDER BY u.id
    FOR KEY SHARE
),
gone AS (
    DELETE FROM usage_breakdowns b USING stale s, alive a
    WHERE a.id = s.user_id AND (b.user_id, b.day, b.key_id, b.model, b.endpoint, b.outcome)
        = (s.user_id, s.day, s.key_id, s.model, s.endpoint, s.outcome)
    RETURNING b.user_id
),
written AS (
    INSERT INTO usage_breakdowns (
        user_id, day, key_id, model, endpoint, outcome, {", ".join(TOTALS)}
    )
    SELECT c.user_id, c.day, c.key_id, c.model, c.endpoint, c.outcome,
           {", ".join(f"c.{name}" for name in TOTALS)}
    FROM changed c JOIN alive a ON a.id = c.user_id
    ORDER BY c.user_id, c.day, c.key_id, c.model, c.endpoint, c.outcome
    ON CONFLICT (user_id, day, key_id, model, endpoint, outcome) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in TOTALS)}
    RETURNING user_id
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM written)
""")  # noqa: S608

_FIRST_DAY = text(f"""
SELECT least((now() AT TIME ZONE 'UTC')::date - {REBUILT_DAYS - 1}, ({_OWN_WATERMARK}))
""")

_NOTE_RUN = text("""
INSERT INTO sweep_states (name, last_run_at) VALUES (:name, now())
ON CONFLICT (name) DO UPDATE SET last_run_at = greatest(sweep_states.last_run_at, now())
""")


def grouped(
    user_id: int,
    start: date,
    end: date,
    *,
    by: Collection[Group],
    key_ids: Sequence[int] | None = None,
    model: str | None = None,
) -> list[dict[str, Any]]:
    """Return totals of the UTC days from `start` to `end`, both included, for each group.

    A row has `TOTALS` and the columns of its groups: `day`, `key_id` (0: unknown), `model`,
    `endpoint`, `outcome` (None: unknown). Rows are in the order of their days, then of what was
    charged, the most first. Raises InvalidRequest beyond MOST_ROWS.
    """
    columns = [column for group, column in _COLUMNS.items() if group in by]
    order = [*(["day"] if "day" in by else []), "charged_tokens DESC, requests DESC", *columns]
    wanted = ["true"]
    if key_ids is not None:
        wanted.append("key_id = ANY(:key_ids)")
    if model is not None:
        wanted.append("model = :model")
    statement = text(
        f"{_USED} SELECT {', '.join(columns)}, {_SUMS} FROM used WHERE {' AND '.join(wanted)}"  # noqa: S608
        f" GROUP BY {', '.join(columns)} ORDER BY {', '.join(order)} LIMIT {MOST_ROWS + 1}"
    )
    rows = db.session.execute(
        statement,
        {
            "user_id": user_id,
            **rollups.bounds(start, end),
            **({} if key_ids is None else {"key_ids": list(key_ids)}),
            **({} if model is None else {"model": model}),
        },
    )
    found = [dict(row) for row in rows.mappings()]
    if len(found) > MOST_ROWS:
        raise InvalidRequest(
            f"These are more than {MOST_ROWS:,} rows: choose fewer days or groups.",
            param="group_by",
        )
    return found


def roll_up() -> int:
    """Rebuild the last days, and all that were missed since; return the number of changed rows."""
    db.session.execute(text("SET LOCAL statement_timeout = '180s'"))
    first_day = db.session.scalar(_FIRST_DAY)
    changed: int = db.session.execute(_ROLL_UP, {"first_day": first_day}).scalar_one()
    db.session.execute(_NOTE_RUN, {"name": SWEEP_NAME})
    return changed
