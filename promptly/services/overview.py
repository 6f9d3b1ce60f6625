"""The operator's overview: number of accounts, what they own, what needs attention."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import text

from promptly.extensions import db
from promptly.models import Reconciliation
from promptly.services.ledger import verification
from promptly.services.mail import outbox
from promptly.services.metering.recovery import STALE_SECONDS
from promptly.services.payments import (
    cases,
    reconciliation,
    unfinished_refunds,
    webhook_inbox,
)
from promptly.settings import Settings

# An expired trial counts only as far as running requests still hold it.
_ACCOUNTS = text("""
SELECT (SELECT count(*) FROM users) AS accounts,
       (SELECT count(*) FROM users WHERE created_at >= :since) AS new_accounts,
       (SELECT count(*) FROM account_activity WHERE tokens > 0) AS active_accounts,
       (SELECT coalesce(sum(paid_tokens + CASE WHEN trial_expires_at > now() THEN trial_tokens
                                               ELSE held_trial END), 0)
        FROM balances) AS owned_tokens
""")

_RUNNING = text("""
SELECT count(*) AS open_holds, coalesce(sum(held_paid + held_trial), 0) AS reserved_tokens,
       count(*) FILTER (WHERE checkpoint_at < now() - make_interval(secs => :stale)) AS stale_holds
FROM holds WHERE state = 'open'
""")

_SIGN_UPS = text("""
SELECT (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS accounts
FROM users WHERE created_at >= :since GROUP BY 1 ORDER BY 1
""")

_OWED_TOKENS = text("""
SELECT coalesce(sum(tokens_owed), 0) FROM orders WHERE tokens_owed > 0
""")

_LATE_MAILS = text("""
SELECT count(*) FROM outbox WHERE state = 'pending' AND created_at < now() - interval '10 minutes'
""")

_SIZE = text("SELECT pg_database_size(current_database())")

# deploy/backup.sh records when the newest backup began; after two more hours the next is overdue.
LATE_BACKUP_HOURS = 26
LATE_BACKUP = f"""
FROM sweep_states
WHERE name = 'backup' AND last_run_at < now() - interval '{LATE_BACKUP_HOURS} hours'
"""
_LATE_BACKUP = text(f"SELECT last_run_at {LATE_BACKUP}")
_BACKUP = text("SELECT last_run_at FROM sweep_states WHERE name = 'backup'")

_RUNS = text("SELECT name, last_run_at FROM sweep_states")

_FIRST_ACCOUNT = text("SELECT min(created_at) FROM users")


@dataclass(frozen=True)
class Waiting:
    """Figures that need the operator's attention; falsy if all of them are 0."""

    cases: int
    parked_events: int
    failed_mails: int
    late_mails: int
    # Refunds that the provider has not answered, and Bitcoin refunds to be claimed or paid out.
    waiting_refunds: int
    offered_refunds: int
    claimed_refunds: int
    owed_tokens: int
    stale_holds: int

    def __bool__(self) -> bool:
        return any(vars(self).values())


def accounts(since: datetime) -> dict[str, int]:
    """Return counts of accounts (all, new, active), tokens owned, and the figures of `running`.

    New means created since `since`, active: used tokens in the last 30 days.
    """
    counted = db.session.execute(_ACCOUNTS, {"since": since}).mappings().one()
    return {name: int(value) for name, value in {**counted, **running()}.items()}


def running() -> dict[str, int]:
    """Count open holds, the tokens they reserve, and those without a recent checkpoint."""
    row = db.session.execute(_RUNNING, {"stale": STALE_SECONDS}).mappings().one()
    return {name: int(value) for name, value in row.items()}


def sign_ups(since: datetime) -> dict[date, int]:
    """Return the number of new accounts for each UTC day that has any."""
    return {row.day: row.accounts for row in db.session.execute(_SIGN_UPS, {"since": since})}


def waiting() -> Waiting:
    refunds = unfinished_refunds.count_by_state()
    return Waiting(
        cases=cases.count_open(),
        parked_events=webhook_inbox.count("parked"),
        failed_mails=outbox.count("failed"),
        late_mails=db.session.scalar(_LATE_MAILS) or 0,
        waiting_refunds=refunds.get("requested", 0),
        offered_refunds=refunds.get("offered", 0),
        claimed_refunds=refunds.get("claimed", 0),
        owed_tokens=int(db.session.scalar(_OWED_TOKENS) or 0),
        stale_holds=running()["stale_holds"],
    )


def database_troubles(settings: Settings) -> list[str]:
    """Return a sentence each: the ledger has differences, the database is large, a backup late."""
    found = []
    last = verification.newest()
    if last is not None and last.differences:
        differences = "1 difference" if last.differences == 1 else f"{last.differences} differences"
        found.append(
            f"The last ledger verification found {differences};"
            " 'flask --app wsgi ledger verify' has the details."
        )
    size, limit = db.session.scalar(_SIZE) or 0, settings.database_size_warn_bytes
    if limit and size > limit:
        found.append(f"The database has {shown_size(size)}, over DATABASE_SIZE_WARN_BYTES.")
    backup_at = late_backup_at()
    if backup_at is not None:
        found.append(f"No backup has been made since {backup_at:%Y-%m-%d at %H:%M} UTC.")
    return found


def backup_at() -> datetime | None:
    """Return when the newest recorded backup was made."""
    made_at: datetime | None = db.session.scalar(_BACKUP)
    return made_at


def late_backup_at() -> datetime | None:
    """Return when the newest recorded backup was made if another is overdue."""
    made_at: datetime | None = db.session.scalar(_LATE_BACKUP)
    return made_at


def shown_size(size_bytes: int) -> str:
    """Format a size for display, in GiB or, if less than one, in MiB."""
    if size_bytes < 2**30:
        return f"{size_bytes / 2**20:.1f} MiB"
    return f"{size_bytes / 2**30:,.1f} GiB"


def first_account_at() -> datetime | None:
    """Return when the oldest account was created: no figure is older."""
    first: datetime | None = db.session.scalar(_FIRST_ACCOUNT)
    return first


def last_runs() -> dict[str, Any]:
    """Return when each periodic task last ran; `reconciliation` is its newest row or None."""
    runs: dict[str, Any] = {row.name: row.last_run_at for row in db.session.execute(_RUNS)}
    newest: list[Reconciliation] = reconciliation.newest()
    return runs | {"reconciliation": newest[0] if newest else None}
