"""Alerts by mail: the balance is low, the trial ends soon. Each is sent once.

The low-balance alert is armed while an account owns at least its threshold of tokens, and fires
when it owns fewer. An account that was never above the threshold, such as a new one with a small
trial, gets no alert.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from promptly.extensions import db
from promptly.models import User
from promptly.services.mail import outbox
from promptly.settings import Settings

MOST_TOKENS = 2**50

# Tokens held by running requests count too: most of them come back.
_OWNED = """
b.paid_tokens + CASE WHEN b.trial_expires_at > now() THEN b.trial_tokens ELSE b.held_trial END
"""
_KEPT = "coalesce(u.low_balance_tokens, :default_tokens)"

_ARM = text(f"""
WITH risen AS MATERIALIZED (
    SELECT u.id FROM users u JOIN balances b ON b.user_id = u.id
    WHERE u.closed_at IS NULL AND NOT u.low_balance_armed AND {_KEPT} > 0 AND {_OWNED} >= {_KEPT}
    ORDER BY u.id LIMIT :batch
    FOR NO KEY UPDATE OF u SKIP LOCKED
)
UPDATE users u SET low_balance_armed = true FROM risen WHERE u.id = risen.id
RETURNING u.id
""")  # noqa: S608

# Not news: only a trial was left, its end was announced, and it expired within the last hour.
_FALL = text(f"""
WITH fallen AS MATERIALIZED (
    SELECT u.id, {_OWNED} AS tokens, {_KEPT} AS kept,
           coalesce(
               b.paid_tokens > 0 OR u.trial_told_of <> b.trial_expires_at
               OR b.trial_expires_at NOT BETWEEN now() - interval '1 hour' AND now(), true
           ) AS is_news
    FROM users u JOIN balances b ON b.user_id = u.id
    WHERE u.closed_at IS NULL AND u.low_balance_armed AND {_OWNED} < {_KEPT}
    ORDER BY u.id LIMIT :batch
    FOR NO KEY UPDATE OF u SKIP LOCKED
)
UPDATE users u SET low_balance_armed = false FROM fallen WHERE u.id = fallen.id
RETURNING u.id, u.email, fallen.tokens, fallen.kept, fallen.is_news
""")  # noqa: S608

# Skip accounts younger than a day: the registration page has just named the trial's duration.
_TRIAL_ENDS = text("""
WITH ending AS MATERIALIZED (
    SELECT u.id, b.trial_expires_at, b.trial_tokens, b.paid_tokens
    FROM users u JOIN balances b ON b.user_id = u.id
    WHERE u.closed_at IS NULL AND u.trial_notice AND b.trial_tokens > 0
      AND b.trial_expires_at > now() AND b.trial_expires_at <= now() + interval '1 day'
      AND u.trial_told_of IS DISTINCT FROM b.trial_expires_at
      AND u.created_at < now() - interval '1 day'
    ORDER BY u.id LIMIT :batch
    FOR NO KEY UPDATE OF u SKIP LOCKED
)
UPDATE users u SET trial_told_of = ending.trial_expires_at FROM ending WHERE u.id = ending.id
RETURNING u.id, u.email, ending.trial_expires_at, ending.trial_tokens, ending.paid_tokens
""")

# A new threshold is armed only if the balance reaches it, so that choosing one sends no mail.
_CHOOSE = text(f"""
UPDATE users u
SET low_balance_tokens = :tokens,
    trial_notice = :trial_notice,
    low_balance_armed = CASE
        WHEN {_KEPT} = :tokens THEN u.low_balance_armed
        ELSE :tokens > 0 AND {_OWNED} >= :tokens
    END
FROM balances b WHERE u.id = :user_id AND b.user_id = u.id
""")  # noqa: S608


@dataclass(frozen=True)
class Choice:
    """The alerts that an account wants; 0 tokens: no low-balance alert."""

    low_balance_tokens: int
    trial_notice: bool


def choice_of(user: User, settings: Settings) -> Choice:
    """Return an account's choice, with the installation's default threshold if it has none."""
    chosen = user.low_balance_tokens
    return Choice(settings.low_balance_tokens if chosen is None else chosen, user.trial_notice)


def choose(user_id: int, choice: Choice, settings: Settings) -> None:
    """Store an account's choice of alerts."""
    values = {
        "user_id": user_id,
        "tokens": choice.low_balance_tokens,
        "trial_notice": choice.trial_notice,
        "default_tokens": settings.low_balance_tokens,
    }
    db.session.execute(_CHOOSE, values)
    db.session.expire_all()


def warn_of_low_balances(settings: Settings, batch: int = 500) -> int:
    """Arm alerts of risen balances, mail those of fallen ones, a batch each.

    Return the size of the larger batch.
    """
    values = {"default_tokens": settings.low_balance_tokens, "batch": batch}
    armed = db.session.execute(_ARM, values).all()
    fallen = db.session.execute(_FALL, values).all()
    for row in fallen:
        if row.is_news:
            payload = {"tokens": row.tokens, "kept_tokens": row.kept}
            outbox.add("low_balance", row.email, user_id=row.id, payload=payload)
    return max(len(armed), len(fallen))


def warn_of_trial_ends(batch: int = 500) -> int:
    """Mail a batch of accounts whose trial ends within a day with tokens left; return its size."""
    ending = db.session.execute(_TRIAL_ENDS, {"batch": batch}).all()
    for row in ending:
        payload: dict[str, Any] = {
            "tokens": row.trial_tokens,
            "paid_tokens": row.paid_tokens,
            "ends_at": f"{row.trial_expires_at:%Y-%m-%d %H:%M} UTC",
        }
        outbox.add("trial_ending", row.email, user_id=row.id, payload=payload)
    return len(ending)
