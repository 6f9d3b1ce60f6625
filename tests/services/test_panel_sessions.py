from datetime import timedelta

from sqlalchemy import update
from sqlalchemy.orm import Session

from promptly.clock import utcnow
from promptly.models import EndedPanelSession
from promptly.services import panel_sessions


def test_an_ended_session_is_remembered_until_it_has_expired(session: Session) -> None:
    panel_sessions.end("one")
    panel_sessions.end("one")
    assert panel_sessions.has_ended("one") and not panel_sessions.has_ended("two")
    assert panel_sessions.purge() == 0
    old = utcnow() - panel_sessions.RETENTION - timedelta(minutes=1)
    session.execute(update(EndedPanelSession).values(ended_at=old))
    assert panel_sessions.purge() == 1
    assert not panel_sessions.has_ended("one")
