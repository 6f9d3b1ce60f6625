"""Usage of an account in model-gateway, as roll-ups; it was charged there, so not again here.

Only days that the roll-up task never rebuilds are imported: it would remove rows without usage
events. The last days follow with an import that runs when they are old enough.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from promptly.extensions import db
from promptly.models import DailyTotal, ImportedAccount, UsageRollup
from promptly.services.imports.source import UsageDay

COUNTS = ("requests", "prompt_tokens", "completion_tokens")


def bring_over(user_id: int, usage: Sequence[UsageDay], mark: ImportedAccount, until: date) -> int:
    """Add usage of days that no import has brought over yet; return the number of days."""
    rows = [row for row in usage if mark.usage_until <= row.day < until]
    if not rows:
        return 0
    days = {row.day for row in rows}
    query = select(UsageRollup.day).where(UsageRollup.user_id == user_id, UsageRollup.day.in_(days))
    active_before = set(db.session.scalars(query))
    _add_rollups(user_id, rows)
    _add_totals(rows, newly_active=days - active_before)
    mark.usage_until = until
    return len(days)


def _add_rollups(user_id: int, rows: Sequence[UsageDay]) -> None:
    statement = insert(UsageRollup).values(
        [
            {
                "user_id": user_id,
                "day": row.day,
                "model": row.model,
                **{name: getattr(row, name) for name in COUNTS},
            }
            for row in rows
        ]
    )
    added = {name: getattr(UsageRollup, name) + statement.excluded[name] for name in COUNTS}
    db.session.execute(
        statement.on_conflict_do_update(index_elements=["user_id", "day", "model"], set_=added)
    )


def _add_totals(rows: Sequence[UsageDay], newly_active: set[date]) -> None:
    totals: dict[date, Counter[str]] = {}
    for row in rows:
        counts = {name: getattr(row, name) for name in COUNTS}
        totals.setdefault(row.day, Counter()).update(counts)
    statement = insert(DailyTotal).values(
        [
            {
                "day": day,
                "active_accounts": int(day in newly_active),
                **{name: counts[name] for name in COUNTS},
            }
            for day, counts in sorted(totals.items())
        ]
    )
    names = (*COUNTS, "active_accounts")
    added = {name: getattr(DailyTotal, name) + statement.excluded[name] for name in names}
    db.session.execute(statement.on_conflict_do_update(index_elements=["day"], set_=added))
