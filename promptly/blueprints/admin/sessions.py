"""Panel sessions: a separate signed cookie, short-lived and sent only below /admin.

It is signed with GATEWAY_SECRET_KEY and the operator's admin key together, so it ends when that key
is changed or removed. It contains no name: the operator is the one whose key verifies it.
The cookie records when the session was opened and last seen; PostgreSQL remembers a signed-out
session until it would have expired anyway.
"""

import hashlib
import hmac
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace

from flask import Response, g, request
from itsdangerous import BadData, URLSafeSerializer
from werkzeug.wrappers import Response as AnyResponse

from promptly.admin_keys import MAIN
from promptly.blueprints.page_headers import is_https
from promptly.clock import utcnow
from promptly.services import panel_sessions
from promptly.settings import current_settings

COOKIE = "promptly_admin"
PATH = "/admin"
IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 8 * 3600
# A younger cookie is not renewed.
RENEWAL_SECONDS = 60


@dataclass(frozen=True)
class PanelSession:
    """One sign-in of the named operator; times are Unix seconds."""

    session_id: str
    opened_at: int
    seen_at: int
    name: str


def start(name: str) -> PanelSession:
    """Create a session; `write` puts it into a response."""
    now = _now()
    return PanelSession(secrets.token_urlsafe(16), opened_at=now, seen_at=now, name=name)


def current() -> PanelSession | None:
    """Return the session of this request, if it is still valid."""
    found = _read(request.cookies.get(COOKIE, ""))
    if found is None:
        return None
    now = _now()
    if now - found.seen_at > IDLE_SECONDS or now - found.opened_at > LONGEST_SECONDS:
        return None
    return None if panel_sessions.has_ended(found.session_id) else found


def renew(response: Response) -> None:
    """Update the last-seen time in the cookie, at most once per RENEWAL_SECONDS."""
    session: PanelSession | None = g.get("panel_session")
    now = _now()
    if session is not None and now - session.seen_at >= RENEWAL_SECONDS:
        write(response, replace(session, seen_at=now))


def write(response: AnyResponse, session: PanelSession) -> None:
    """Set the session cookie of a response."""
    value = [session.session_id, session.opened_at, session.seen_at]
    response.set_cookie(
        COOKIE,
        str(_serializer(session.name).dumps(value)),
        max_age=IDLE_SECONDS,
        path=PATH,
        secure=is_https(),
        httponly=True,
        samesite="Strict",
    )


def forget(response: AnyResponse) -> None:
    """Delete the cookie of a session that was signed out."""
    # Otherwise `renew` could set the cookie again on this response.
    g.panel_session = None
    response.delete_cookie(COOKIE, path=PATH, secure=is_https(), httponly=True, samesite="Strict")


def _read(cookie: str) -> PanelSession | None:
    for name in current_settings().keys_of_operators:
        with suppress(BadData, TypeError, ValueError):
            session_id, opened_at, seen_at = _serializer(name).loads(cookie)
            return PanelSession(session_id, opened_at, seen_at, name)
    return None


def _serializer(name: str) -> URLSafeSerializer:
    settings = current_settings()
    admin_key = settings.keys_of_operators[name].reveal().encode()
    signing_keys = [hmac.digest(key.encode(), admin_key, "sha256") for key in settings.signing_keys]
    salt = "promptly.admin.session"
    return URLSafeSerializer(
        signing_keys,
        # With the name, a key that passes to another operator takes no session along.
        salt=salt if name == MAIN else f"{salt}.{name}",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def _now() -> int:
    return int(utcnow().timestamp())
