"""Monthly partitions of usage events: created ahead, dropped whole after the retention.

Before a partition is dropped, each of its accounts gets one `usage_closing` entry with the sum
charged there, so that every balance still equals its entries and events.
"""

import re
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text

from promptly.extensions import db
from promptly.services.usage.breakdowns import WATERMARK

MONTHS_AHEAD = 2
DEFAULT_PARTITION = "usage_events_default"

_MONTHLY = re.compile(r"usage_events_(\d{4})_(\d{2})")


def existing() -> dict[date, str]:
    """Return the monthly partitions by their first day."""
    rows = db.session.execute(
        text("""
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'usage_events'::regclass
        """)
    )
    found = (_MONTHLY.fullmatch(row[0]) for row in rows)
    return {date(int(match[1]), int(match[2]), 1): match[0] for match in found if match}


def make_ahead(today: date | None = None) -> list[str]:
    """Create the partitions of this month, of the next ones, and of events without one.

    Events without a partition wait in the default one and are moved. Return the new names.
    """
    today = today or datetime.now(UTC).date()
    wanted = {_add_months(today.replace(day=1), ahead) for ahead in range(MONTHS_AHEAD + 1)}
    stray = db.session.execute(
        text(f"""
            SELECT DISTINCT date_trunc('month', created_at AT TIME ZONE 'UTC')::date
            FROM {DEFAULT_PARTITION}
        """)  # noqa: S608 - a constant of this module
    )
    wanted.update(row[0] for row in stray)
    return [_make(first) for first in sorted(wanted - existing().keys())]


def drop_old(retention_days: int, today: date | None = None) -> list[str]:
    """Drop the partitions that lie wholly before the retention and in finished roll-ups.

    0 days means for ever. Return the names of the dropped partitions.
    """
    if retention_days == 0:
        return []
    today = today or datetime.now(UTC).date()
    rolled_up: date = (
        db.session.scalar(
            text(f"SELECT greatest(day, DATE '0001-01-01') FROM ({WATERMARK}) AS live")  # noqa: S608
        )
        or date.min
    )
    keep_from = min(today - timedelta(days=retention_days), rolled_up)
    dropped = []
    for first, name in sorted(existing().items()):
        if _add_months(first, 1) <= keep_from:
            _close_and_drop(name)
            dropped.append(name)
    return dropped


def _make(first: date) -> str:
    name = f"usage_events_{first:%Y_%m}"
    last = _add_months(first, 1)
    start, end = f"{first} 00:00:00+00", f"{last} 00:00:00+00"
    # Wait only briefly for the lock of a busy table; the next run tries again.
    db.session.execute(text("SET LOCAL lock_timeout = '3s'"))
    # Attaching takes a weaker lock than creating in place, on the table that all requests write.
    db.session.execute(text(f"CREATE TABLE {name} (LIKE usage_events INCLUDING ALL)"))
    db.session.execute(
        text(f"""
            WITH moved AS (
                DELETE FROM {DEFAULT_PARTITION}
                WHERE created_at >= :start AND created_at < :end RETURNING *
            )
            INSERT INTO {name} SELECT * FROM moved
        """),  # noqa: S608 - names are made of digits
        {"start": start, "end": end},
    )
    db.session.execute(
        text(
            f"ALTER TABLE usage_events ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{start}') TO ('{end}')"
        )
    )
    return name


def _close_and_drop(name: str) -> None:
    db.session.execute(text("SET LOCAL lock_timeout = '3s'"))
    db.session.execute(text(f"LOCK TABLE {name} IN EXCLUSIVE MODE"))
    db.session.execute(
        text(f"""
            INSERT INTO ledger_entries (user_id, kind, paid_delta, trial_delta, reference, actor)
            SELECT e.user_id, 'usage_closing', -sum(e.charged_paid), -sum(e.charged_trial),
                   '{name}:' || e.user_id, 'system'
            FROM {name} e JOIN users u ON u.id = e.user_id
            GROUP BY e.user_id
            HAVING sum(e.charged_paid) <> 0 OR sum(e.charged_trial) <> 0
        """)  # noqa: S608 - names are made of digits
    )
    db.session.execute(text(f"DROP TABLE {name}"))


def _add_months(first: date, months: int) -> date:
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    return date(year, month + 1, 1)
