"""Sessions of the dashboard, kept on the server: started, found, listed, ended.

The browser's signed cookie has a random token; the database has its hash. A session is valid until
it is ended, was not used for IDLE_DAYS, or its key is revoked or has expired.

Cookies of releases before these sessions name a key and have no token. All those of one key share
one session, adopted at the first use of any of them, so ending it refuses every copy. Its row stays
while the key is valid: otherwise a copy could be adopted again.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from promptly.clock import utcnow
from promptly.extensions import db
from promptly.models import ApiKey, DashboardSession, User
from promptly.models.states import KeyScope
from promptly.services.accounts import keys
from promptly.services.mail import security_alerts

IDLE_DAYS = 30
# Ended and unused sessions are kept for this long: a sign-in from their network is not reported.
KNOWN_NETWORK_DAYS = 90
# A further sign-in deletes the account's oldest session.
MOST_SESSIONS = 100
_SEEN_INTERVAL = timedelta(hours=1)

_IS_OPEN = DashboardSession.ended_at.is_(None) & (
    DashboardSession.seen_at > func.now() - timedelta(days=IDLE_DAYS)
)

_TRIM = text("""
DELETE FROM sessions WHERE user_id = :user_id AND NOT adopted AND id <= (
    SELECT id FROM sessions WHERE user_id = :user_id AND NOT adopted
    ORDER BY id DESC OFFSET :kept LIMIT 1
)
""")


@dataclass(frozen=True)
class SignedIn:
    """A valid session and the key it was opened with."""

    session_id: int
    key: ApiKey
    seen_at: datetime
    adopted: bool

    @property
    def is_stale(self) -> bool:
        """Whether `touch` has something to write."""
        return utcnow() - self.seen_at >= _SEEN_INTERVAL


def start(key: ApiKey, browser: str, network: str) -> str:
    """Start a session and return its token; email the account about a network not seen lately.

    `network` is truncated, so that it names no single machine. The caller has locked the account.
    """
    db.session.execute(_TRIM, {"user_id": key.user_id, "kept": MOST_SESSIONS - 1})
    if not _is_first_sign_in(key.user_id) and not _is_known_network(key.user_id, network):
        security_alerts.signed_in(key.user_id, browser, network)
    token = secrets.token_urlsafe(32)
    db.session.add(
        DashboardSession(
            token_hash=_hash(token),
            user_id=key.user_id,
            key_id=key.id,
            browser=browser,
            network=network,
        )
    )
    db.session.flush()
    return token


def find(key_id: int, token: str | None) -> SignedIn | None:
    """Return the valid session of a cookie; without a token, the adopted one of its key."""
    query = (
        select(DashboardSession, ApiKey)
        .join(ApiKey, ApiKey.id == DashboardSession.key_id)
        .where(
            DashboardSession.token_hash == _hash(_adopted(key_id) if token is None else token),
            _IS_OPEN,
            ApiKey.revoked_at.is_(None),
            keys.NOT_EXPIRED,
            ApiKey.scope == KeyScope.FULL,
        )
    )
    row = db.session.execute(query).first()
    if row is None:
        return None
    session, key = row
    return SignedIn(session.id, key, session.seen_at, session.adopted)


def adopt(key_id: int, browser: str, network: str) -> SignedIn | None:
    """Adopt a cookie without a token; None if its key is not valid or the session was ended."""
    key = keys.find_active(key_id)
    if key is None or key.scope != KeyScope.FULL:
        return None
    # The account's row first, and then the weaker lock of a reference to it: no deadlock with a
    # deletion.
    _is_first_sign_in(key.user_id)
    _insert_adopted(key, browser, network)
    return find(key_id, None)


def touch(session_id: int) -> None:
    """Record that a session is in use, to the hour."""
    db.session.execute(
        update(DashboardSession)
        .where(DashboardSession.id == session_id)
        .values(seen_at=func.date_trunc("hour", func.now()))
    )


def list_open(user_id: int) -> list[DashboardSession]:
    """Return the sessions of an account that are still valid, those used last first."""
    query = (
        select(DashboardSession)
        .join(ApiKey, ApiKey.id == DashboardSession.key_id)
        .where(
            DashboardSession.user_id == user_id,
            _IS_OPEN,
            ApiKey.revoked_at.is_(None),
            keys.NOT_EXPIRED,
        )
        .order_by(DashboardSession.seen_at.desc(), DashboardSession.id.desc())
    )
    return list(db.session.scalars(query))


def end(user_id: int, session_id: int) -> bool:
    """End one session of an account; return False if it has no such open session."""
    return _end(user_id, DashboardSession.id == session_id) > 0


def end_others(user_id: int, kept_id: int | None) -> int:
    """End all sessions of an account but one; return how many were listed.

    Cookies that could still be adopted are refused from then on. The caller has locked the
    account.
    """
    ended = _end(user_id, DashboardSession.id.is_distinct_from(kept_id))
    for key in keys.list_active(user_id):
        _insert_adopted(key, "", "", ended=True)
    return ended


def purge() -> int:
    """Delete sessions that are neither valid nor needed to know their network; return how many."""
    key = aliased(ApiKey)
    is_needed = exists().where(
        DashboardSession.adopted, key.id == DashboardSession.key_id, key.revoked_at.is_(None)
    )
    last = func.coalesce(DashboardSession.ended_at, DashboardSession.seen_at)
    statement = delete(DashboardSession).where(
        last < func.now() - timedelta(days=KNOWN_NETWORK_DAYS), ~is_needed
    )
    return len(db.session.execute(statement.returning(DashboardSession.id)).all())


def _end(user_id: int, condition: object) -> int:
    statement = (
        update(DashboardSession)
        .where(DashboardSession.user_id == user_id, _IS_OPEN, condition)  # type: ignore[arg-type]
        .values(ended_at=func.now())
        .returning(DashboardSession.id)
    )
    return len(db.session.execute(statement).all())


def _insert_adopted(key: ApiKey, browser: str, network: str, *, ended: bool = False) -> None:
    values = {
        "token_hash": _hash(_adopted(key.id)),
        "user_id": key.user_id,
        "key_id": key.id,
        "adopted": True,
        "browser": browser,
        "network": network,
        "ended_at": func.now() if ended else None,
    }
    db.session.execute(insert(DashboardSession).values(values).on_conflict_do_nothing())


def _is_first_sign_in(user_id: int) -> bool:
    statement = (
        update(User)
        .where(User.id == user_id, User.first_sign_in_at.is_(None))
        .values(first_sign_in_at=func.now())
        .returning(User.id)
    )
    return db.session.execute(statement).first() is not None


def _is_known_network(user_id: int, network: str) -> bool:
    since = func.now() - timedelta(days=KNOWN_NETWORK_DAYS)
    query = select(DashboardSession.id).where(
        DashboardSession.user_id == user_id,
        DashboardSession.network == network,
        DashboardSession.seen_at > since,
    )
    return db.session.scalar(query.limit(1)) is not None


def _adopted(key_id: int) -> str:
    # Never a token: those have no colon.
    return f"key:{key_id}"


def _hash(token: str) -> bytes:
    # Without a secret: 256 random bits cannot be guessed, and a rotation ends no session.
    return hashlib.sha256(token.encode()).digest()
