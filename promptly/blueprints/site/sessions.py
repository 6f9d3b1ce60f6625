"""Sessions: a signed cookie with the id of a key, valid as long as the key is."""

from flask import Flask, Request, g, redirect, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from werkzeug.wrappers import Response as AnyResponse

from promptly import pseudonyms
from promptly.blueprints.navigation import is_navigation
from promptly.blueprints.page_headers import is_https
from promptly.blueprints.site import landing
from promptly.blueprints.site.limits import FAILED_SIGN_INS
from promptly.errors import InvalidKey
from promptly.extensions import limiter
from promptly.gateway import current_gateway
from promptly.models import ApiKey
from promptly.services.accounts import key_format, keys
from promptly.settings import current_settings


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
    gateway, accepted = current_gateway(), current_settings().key_peppers
    key = keys.find(raw, *accepted)
    imported = key is None and key_format.is_imported(raw)
    if imported and gateway.imported_keys.authenticate(raw, pseudonyms.of_network()):
        key = keys.find(raw, *accepted)
    if key is None:
        # Count only failures: a script may fetch its page as often as it likes.
        with limiter.shared_limit(FAILED_SIGN_INS, scope="sign-in", key_func=pseudonyms.of_network):
            return None
    current = gateway.key_hashes.of(raw)[0]
    if key.key_hash != current:
        gateway.key_hashes.renew(key.id, current)
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
        rest = {name: value for name, value in request.args.items() if name != "key"}
        page = request.endpoint if request.method == "GET" else None
        arguments = (request.view_args or {}) | rest if page else {}
        return redirect(url_for(page or "site.dashboard", **arguments), 303)
    g.key = key
    return None


def _start(key: ApiKey) -> None:
    session.clear()
    session["key_id"] = key.id
    session.permanent = True
