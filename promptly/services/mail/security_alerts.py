"""Emails about new keys and sign-ins from a new network; an account can switch them off.

Each has a bound per account and day. Callers have locked the account, so that the bound is exact.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, update

from promptly.clock import utcnow
from promptly.extensions import db
from promptly.models import ApiKey, OutboxMail, User
from promptly.services.mail import outbox

# Emails per account and day, by kind.
MOST = {"key_created": 10, "sign_in": 5}
# Emails that name a network are deleted after this time.
RETENTION_DAYS = 90


def key_created(key: ApiKey, *, by_operator: bool) -> None:
    """Report a key that its owner or the operator created."""
    payload = {
        "name": key.name,
        "prefix": key.prefix,
        "scope": str(key.scope),
        "by_operator": by_operator,
    }
    _add("key_created", key.user_id, payload)


def signed_in(user_id: int, browser: str, network: str) -> None:
    """Report a sign-in from a network not seen lately."""
    payload = {
        "browser": browser,
        "network": network,
        "signed_in_at": f"{utcnow():%Y-%m-%d %H:%M} UTC",
    }
    _add("sign_in", user_id, payload)


def choose(user_id: int, *, wanted: bool) -> None:
    """Switch these emails on or off for an account."""
    db.session.execute(update(User).where(User.id == user_id).values(security_notice=wanted))


def purge() -> int:
    """Delete old emails that name a network; return how many."""
    since = func.now() - timedelta(days=RETENTION_DAYS)
    statement = delete(OutboxMail).where(
        OutboxMail.kind == "sign_in", OutboxMail.created_at < since
    )
    return len(db.session.execute(statement.returning(OutboxMail.id)).all())


def _add(kind: str, user_id: int, payload: dict[str, Any]) -> None:
    query = select(User.email).where(
        User.id == user_id, User.security_notice, User.closed_at.is_(None)
    )
    address = db.session.scalar(query)
    if address is not None and _today(user_id, kind) < MOST[kind]:
        outbox.add(kind, address, user_id=user_id, payload=payload)


def _today(user_id: int, kind: str) -> int:
    query = select(func.count()).where(
        OutboxMail.user_id == user_id,
        OutboxMail.kind == kind,
        OutboxMail.created_at > func.now() - timedelta(days=1),
    )
    return db.session.scalar(query) or 0
