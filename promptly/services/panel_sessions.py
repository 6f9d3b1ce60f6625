"""Sessions of the panel that were signed out, so that a copy of their cookie is refused.

The cookie itself limits a session to hours (`blueprints.admin.sessions`); a row is needed no
longer than that.
"""

import hashlib
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from promptly.extensions import db
from promptly.models import EndedPanelSession

# Longer than any session lasts.
RETENTION = timedelta(days=1)


def end(session_id: str) -> None:
    """Record that a session has been signed out; idempotent."""
    statement = insert(EndedPanelSession).values(token_hash=_hash(session_id))
    db.session.execute(statement.on_conflict_do_nothing())


def has_ended(session_id: str) -> bool:
    query = select(EndedPanelSession.ended_at).where(
        EndedPanelSession.token_hash == _hash(session_id)
    )
    return db.session.scalar(query) is not None


def purge() -> int:
    """Delete records of sessions that have expired by now; return how many."""
    statement = delete(EndedPanelSession).where(EndedPanelSession.ended_at < func.now() - RETENTION)
    return len(db.session.execute(statement.returning(EndedPanelSession.ended_at)).all())


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()
