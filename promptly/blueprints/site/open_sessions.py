"""The dashboard's list of sessions: end one, or all others."""

from flask import g, redirect, session, url_for
from werkzeug.wrappers import Response

from promptly.blueprints.site import sessions
from promptly.errors import NotFound
from promptly.models import ApiKey
from promptly.services.accounts import accounts
from promptly.services.accounts import sessions as stored
from promptly.transactions import transaction


def end(session_id: int) -> Response:
    """End one session of the account; ending this browser's own signs it out."""
    key: ApiKey = g.key
    with transaction():
        if not stored.end(key.user_id, session_id):
            raise NotFound("This session does not exist or has ended.")
    if session_id == g.session_id:
        session.clear()
        return redirect(url_for("site.index"), 303)
    return _back("session")


def end_others() -> Response:
    """End every session of the account but this browser's."""
    key: ApiKey = g.key
    # A script that sends its key has no session to keep.
    kept = None if g.session_id is None else sessions.own()
    with transaction():
        accounts.lock(key.user_id)
        stored.end_others(key.user_id, None if kept is None else kept.session_id)
    return _back("sessions")


def _back(saved: str) -> Response:
    return redirect(url_for("site.dashboard", saved=saved, _anchor="sessions"), 303)
