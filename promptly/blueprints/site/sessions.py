"""Signing in and out: a signed cookie names a session that is kept on the server.

The cookie has the key's id, which is all that releases without sessions on the server read, and the
session's token. Cookies of those releases have no token and are adopted at their first use
(`services.accounts.sessions`).
"""

from flask import Flask, Request, g, redirect, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from werkzeug.wrappers import Response as AnyResponse

from promptly import pseudonyms
from promptly.blueprints.page_headers import is_https
from promptly.blueprints.site import landing, visitor
from promptly.blueprints.site.limits import FAILED_SIGN_INS
from promptly.errors import Forbidden, InvalidKey
from promptly.extensions import limiter
from promptly.gateway import current_gateway
from promptly.models import ApiKey
from promptly.models.states import KeyScope
from promptly.proxies import client_address
from promptly.services.accounts import accounts, key_format, keys
from promptly.services.accounts import sessions as stored
from promptly.services.accounts.leash import Leash
from promptly.services.accounts.sessions import SignedIn
from promptly.settings import current_settings
from promptly.transactions import release_connection, transaction

WRONG_SCOPE = (
    "This key is for the API only: it cannot open the dashboard. Sign in with a key with full"
    " access, such as the one that was emailed to you."
)


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


def current() -> SignedIn | None:
    """Return the valid session of this request's cookie, with its key."""
    key_id, token = session.get("key_id"), session.get("token")
    if not isinstance(key_id, int):
        return None
    found = stored.find(key_id, token)
    if found is None and token is None:
        with transaction():
            found = stored.adopt(key_id, visitor.browser(), visitor.network())
    elif found is not None and found.is_stale:
        with transaction():
            stored.touch(found.session_id)
    return found


def use(key: ApiKey, session_id: int | None) -> None:
    """Record the key and session that this request's pages are for."""
    g.key, g.session_id = key, session_id
    g.suspended = accounts.is_suspended(key.user_id)


def own() -> SignedIn | None:
    """Return `current`, but never an adopted session: copies of its cookie would share it."""
    found = current()
    if found is None or not found.adopted:
        return found
    start(found.key)
    return current()


def entered_key(raw: str) -> ApiKey | None:
    """Return the active key that was entered, None if it is not valid.

    Raises Forbidden for a key that may not open the dashboard, or not from here, RateLimitExceeded
    after too many
    keys that are not valid, and as `ImportedKeys.authenticate` does.
    """
    raw = raw.strip()
    gateway, accepted = current_gateway(), current_settings().key_peppers
    key = keys.find(raw, *accepted)
    if key is None and key_format.is_imported(raw):
        # The check takes turns, for seconds if many wait.
        release_connection()
        if gateway.imported_keys.authenticate(raw, pseudonyms.of_network()):
            key = keys.find(raw, *accepted)
    if key is None:
        # Count only failures: a script may fetch its page as often as it likes.
        with limiter.shared_limit(FAILED_SIGN_INS, scope="sign-in", key_func=pseudonyms.of_network):
            return None
    newest = gateway.key_hashes.of(raw)[0]
    if key.key_hash != newest:
        gateway.key_hashes.renew(key.id, newest)
    if key.scope != KeyScope.FULL:
        raise Forbidden(WRONG_SCOPE)
    Leash(key.allowed_models, key.allowed_addresses).require_address(client_address())
    return key


def open_session() -> AnyResponse:
    """Sign in with a key."""
    try:
        key = entered_key(request.form.get("key", ""))
    except Forbidden as problem:
        return landing.page(key_error=problem.message, status=problem.status)
    if key is None:
        message = "This key is not valid. Register again to get a new one by email."
        return landing.page(key_error=message, status=401)
    start(key)
    return redirect(url_for("site.dashboard"), 303)


def end_session() -> AnyResponse:
    """Sign out, on the server too: a copy of the cookie is refused from now on."""
    signed_in = current()
    if signed_in is not None:
        with transaction():
            stored.end(signed_in.key.user_id, signed_in.session_id)
    session.clear()
    return redirect(url_for("site.index"), 303)


def start(key: ApiKey) -> None:
    """Sign this browser in with a key, in place of its former session.

    Raises InvalidKey if the key was revoked, perhaps with its account, since it was looked up.
    """
    former = current()
    with transaction():
        accounts.lock(key.user_id)
        if keys.find_active(key.id) is None:
            raise InvalidKey("This key is not valid.")
        # An adopted session may be that of other browsers, too.
        if former is not None and not former.adopted:
            stored.end(former.key.user_id, former.session_id)
        token = stored.start(key, visitor.browser(), visitor.network())
    session.clear()
    session["key_id"] = key.id
    session["token"] = token
    session.permanent = True
