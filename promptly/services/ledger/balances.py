"""The balance as its account sees it."""

from datetime import datetime
from typing import Any

from sqlalchemy import text

from promptly.errors import NotFound
from promptly.extensions import db

# An expired trial counts only as far as running requests still hold it.
_READ = text("""
SELECT paid_tokens, held_paid + held_trial AS reserved_tokens, trial_expires_at,
       CASE WHEN trial_expires_at > now() THEN trial_tokens ELSE held_trial END AS trial_tokens
FROM balances WHERE user_id = :user_id
""")


def read(user_id: int) -> dict[str, Any]:
    """Return the balance as the API shows it: tokens, and the trial's end in ISO 8601 or None.

    Spendable now are `available_tokens` = paid + trial - reserved. Raises NotFound if the account
    does not exist.
    """
    row = db.session.execute(_READ, {"user_id": user_id}).mappings().first()
    if row is None:
        raise NotFound("There is no such account.")
    owned = row["paid_tokens"] + row["trial_tokens"]
    return {
        "object": "balance",
        "available_tokens": owned - row["reserved_tokens"],
        "trial_tokens": row["trial_tokens"],
        "trial_expires_at": iso(row["trial_expires_at"]) if row["trial_tokens"] else None,
        "paid_tokens": row["paid_tokens"],
        "reserved_tokens": row["reserved_tokens"],
    }


def iso(moment: datetime | None) -> str | None:
    """Format a moment in UTC as clients read it: `2026-11-23T12:00:00Z`."""
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%S}Z"
