"""Sessions: a signed cookie with the id of a key, valid as long as the key is."""

from flask import Flask, Request, g, redirect, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.navigation import is_navigation, query_without_key
from promptly.blueprints.page_headers import is_https
from promptly.blueprints.site import landing
from promptly.blueprints.site.limits import FAILED_SIGN_INS
from promptly.errors import InvalidKey
from promptly.extensions import limiter
from promptly.gateway import current_gateway
from promptly.models import ApiKey
from promptly.proxies import client_network
from promptly.services.accounts import key_format, keys
from promptly.settings import current_settings
from promptly.transactions import release_connection


class SessionInterface(SecureCookieSessionInterface):
    """Flask's sessions, with a Secure cookie whenever the request came over https."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if request.path.startswith("/v1/"):
            # The API uses keys only: there is no session to open or save.
            return self.make_null_session(app)
        # Most requests carry no cookie: skip the signature check.
        if self.get_cookie_name(app) not in request.cookies:
            return self.session_class()
        return super().open_session(app, request)

    def get_cookie_secure(self, app: Flask) -> bool:
        return is_https()


def configure(app: Flask) -> None:
    """Install the session interface."""
    app.session_interface = SessionInterface()
    # A form on a page that was left open stays valid as long as the session.
    app.config["WTF_CSRF_TIME_LIMIT"] = None


def current_key() -> ApiKey | None:
    """Return the key that this session was opened with, if it is still active."""
    key_id = session.get("key_id")
    return keys.find_active(key_id) if isinstance(key_id, int) else None


def entered_key(raw: str) -> ApiKey | None:
    """Return the active key that was entered, None if it is not valid.

    Raises RateLimitExceeded after too many keys that are not valid, and as
    `ImportedKeys.authenticate` does.
    """
    raw = raw.strip()
    pepper = current_settings().key_pepper
    key = keys.find(raw, pepper)
    if key is None and key_format.is_imported(raw):
        digest = key_format.digest(raw, pepper.reveal())
        # The check takes turns, for seconds if many wait.
        release_connection()
        if current_gateway().imported_keys.authenticate(raw, digest, client_network()):
            key = keys.find(raw, pepper)
    if key is None:
        # Count only failures: a script may fetch its page as often as it likes.
        with limiter.shared_limit(FAILED_SIGN_INS, scope="sign-in", key_func=client_network):
            return None
    return key


def open_session() -> AnyResponse:
    """Sign in with a key."""
    key = entered_key(request.form.get("key", ""))
    if key is None:
        message = "This key is not valid. Register again to get a new one by email."
        return landing.page(key_error=message, status=401)
    _start(key)
    return redirect(url_for("site.dashboard"), 303)


def end_session() -> AnyResponse:
    session.clear()
    return redirect(url_for("site.index"), 303)


def enter_by_url() -> AnyResponse | None:
    """Open a session for a browser with a key in the URL, and redirect to the URL without it.

    Returns None for other clients: they get the page itself. Raises InvalidKey.
    """
    key = entered_key(request.args["key"])
    if key is None:
        raise InvalidKey("This key is not valid.")
    if is_navigation():
        _start(key)
        # The same page with all other arguments, without the key.
        if request.method != "GET" or request.endpoint is None:
            return redirect(url_for("site.dashboard"), 303)
        page = url_for(request.endpoint, **(request.view_args or {}))
        return redirect(f"{page}{query_without_key()}", 303)
    g.key = key
    return None


def _start(key: ApiKey) -> None:
    session.clear()
    session["key_id"] = key.id
    session.permanent = True
