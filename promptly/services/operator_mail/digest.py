"""The daily digest: the figures of a UTC day as the panel shows them, and what waits."""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import text

from promptly import money
from promptly.extensions import db
from promptly.services import overview
from promptly.services.mail import outbox
from promptly.services.mail.messages import OPERATOR_DIGEST
from promptly.services.operator_mail import outages
from promptly.services.usage import statistics
from promptly.services.usage.rollups import SWEEP_NAME
from promptly.settings import Settings

TOPIC = "digest"

# Yesterday, once a roll-up has seen all of it: settlements of its last seconds may commit later.
# PostgreSQL's clock, because workers' clocks may differ at midnight.
_DUE = text("""
SELECT (now() AT TIME ZONE 'UTC')::date - 1 AS day FROM sweep_states
WHERE name = :roll_up
  AND last_run_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                     + interval '1 minute'
  AND NOT EXISTS (
      SELECT FROM operator_alerts
      WHERE topic = :topic AND subject >= ((now() AT TIME ZONE 'UTC')::date - 1)::text
  )
""")

_CLAIM = text("""
INSERT INTO operator_alerts (topic, subject) VALUES (:topic, :day)
ON CONFLICT (topic, subject) WHERE ended_at IS NULL DO NOTHING RETURNING id
""")
_FORGET = text("DELETE FROM operator_alerts WHERE topic = :topic AND subject < :day")

_REFUNDS = "/cases#refunds"
# Figure of `overview.Waiting`, words for one and for more, page of the panel.
WAITING = (
    ("cases", "payment needs a decision", "payments need a decision", "/cases"),
    ("parked_events", "parked webhook event", "parked webhook events", "/webhooks?state=parked"),
    ("failed_mails", "failed email", "failed emails", "/outbox?state=failed"),
    ("late_mails", "late email", "late emails", "/outbox?state=pending"),
    ("claimed_refunds", "Bitcoin refund to pay out", "Bitcoin refunds to pay out", _REFUNDS),
    ("offered_refunds", "unclaimed Bitcoin refund", "unclaimed Bitcoin refunds", _REFUNDS),
    ("waiting_refunds", "unanswered refund", "unanswered refunds", _REFUNDS),
    ("owed_tokens", "token owed", "tokens owed", "/purchases?owed=1"),
    ("stale_holds", "hold of a dead process", "holds of dead processes", "/holds"),
)


def due() -> date | None:
    """Return the day whose digest is to be sent, which is yesterday; None if it has been sent."""
    day: date | None = db.session.scalar(_DUE, {"topic": TOPIC, "roll_up": SWEEP_NAME})
    return day


def send(settings: Settings) -> date | None:
    """Mail the operator yesterday's digest, unless that has been done; return its day."""
    day = due()
    if day is None:
        return None
    values = {"topic": TOPIC, "day": day.isoformat()}
    if db.session.scalar(_CLAIM, values) is None:
        return None
    db.session.execute(_FORGET, values)
    payload = figures(day) | {"waiting": waiting(settings)}
    outbox.add(OPERATOR_DIGEST, settings.operator_email, user_id=None, payload=payload)
    return day


def figures(day: date) -> dict[str, Any]:
    """Return the figures of a day: requests, tokens, sales by currency, new accounts."""
    [totals] = statistics.daily(day, day) or [{}]
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    names = (
        "requests",
        "prompt_tokens",
        "completion_tokens",
        "charged_tokens",
        "uncharged_tokens",
        "active_accounts",
    )
    return {
        "day": day.isoformat(),
        **{name: int(totals.get(name, 0)) for name in names},
        "new_accounts": overview.sign_ups(start).get(day, 0),
        "sales": [
            {
                "purchases": int(row["purchases"]),
                "revenue": money.shown(
                    int(row["amount_minor"] - row["reversed_minor"]), row["currency"]
                ),
                "livemode": row["livemode"],
            }
            for row in statistics.revenue(day, day)
        ],
    }


def waiting(settings: Settings) -> list[dict[str, str]]:
    """Return what waits for the operator now: sentences with paths below the panel's URL."""
    counts = vars(overview.waiting())
    found = [
        (f"{counts[name]:,} {one if counts[name] == 1 else more}", path)
        for name, one, more, path in WAITING
        if counts[name]
    ]
    found += [(f"model server unavailable: {server}", "") for server in outages.reported()]
    found += [(trouble, "") for trouble in overview.database_troubles(settings)]
    return [{"text": words, "path": path} for words, path in found]
