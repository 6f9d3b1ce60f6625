"""When each key was last used, at no cost to the requests that use it.

A task updates `api_keys.last_used_at` from usage events; later use is read from the events of the
one account that is shown, so a page is exact at any moment.
"""

from datetime import datetime

from sqlalchemy import text

from promptly.extensions import db

SWEEP_NAME = "keys_last_used"

# The task may have missed events since this moment: a transaction of the longest allowed duration,
# or a machine whose clock is behind, writes events dated before the task's own run.
_SINCE = f"""
SELECT coalesce(
    (SELECT last_run_at - interval '10 minutes' FROM sweep_states WHERE name = '{SWEEP_NAME}'),
    '-infinity'::timestamptz
) AS moment
"""  # noqa: S608 - a constant of this module

# Skip a key that is being changed: the next run looks at the same period again.
_NOTE = text("""
WITH used AS MATERIALIZED (
    SELECT key_id AS id, max(created_at) AS last_used_at FROM usage_events
    WHERE created_at >= :since
    GROUP BY key_id
),
free AS MATERIALIZED (
    SELECT k.id, u.last_used_at FROM api_keys k JOIN used u USING (id)
    WHERE k.last_used_at IS NULL OR k.last_used_at < u.last_used_at
    ORDER BY k.id
    FOR NO KEY UPDATE OF k SKIP LOCKED
)
UPDATE api_keys k SET last_used_at = free.last_used_at FROM free WHERE k.id = free.id
""")

_RUN = text("""
INSERT INTO sweep_states (name, last_run_at) VALUES (:name, now())
ON CONFLICT (name) DO UPDATE SET last_run_at = greatest(sweep_states.last_run_at, now())
""")

_LAST_USED = text(f"""
SELECT k.id, greatest(k.last_used_at, u.last_used_at)
FROM api_keys k
LEFT JOIN (
    SELECT key_id, max(created_at) AS last_used_at FROM usage_events
    WHERE user_id = :user_id AND created_at >= (SELECT moment FROM ({_SINCE}) AS since)
    GROUP BY key_id
) u ON u.key_id = k.id
WHERE k.user_id = :user_id AND k.revoked_at IS NULL
""")  # noqa: S608


def note() -> None:
    """Update when each key was last used; idempotent."""
    db.session.execute(text("SET LOCAL statement_timeout = '180s'"))
    # Pass the moment as a value, so that the planner knows how few events match.
    since = db.session.execute(text(_SINCE)).scalar_one()
    db.session.execute(_NOTE, {"since": since})
    db.session.execute(_RUN, {"name": SWEEP_NAME})


def last_used(user_id: int) -> dict[int, datetime | None]:
    """Return when each valid key of an account was last used, None if never."""
    rows = db.session.execute(_LAST_USED, {"user_id": user_id})
    return {row[0]: row[1] for row in rows}
