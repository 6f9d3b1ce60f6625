"""Sessions: a signed cookie with the id of a key, good for as long as that key is."""

from flask import Flask, Request, current_app, g, redirect, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.navigation import is_navigation
from promptly.blueprints.page_headers import is_https
from promptly.blueprints.site import landing
from promptly.blueprints.site.limits import FAILED_SIGN_INS
from promptly.errors import InvalidKey
from promptly.extensions import limiter
from promptly.models import ApiKey
from promptly.proxies import client_network
from promptly.services.accounts import keys


class SessionInterface(SecureCookieSessionInterface):
    """Flask's own, with a cookie that is Secure whenever the request came by https."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if request.path.startswith("/v1/"):
            # Keys only: nothing to open, and then nothing to save.
            return self.make_null_session(app)
        # Most requests carry no cookie: they need no signature checked.
        if self.get_cookie_name(app) not in request.cookies:
            return self.session_class()
        return super().open_session(app, request)

    def get_cookie_secure(self, app: Flask) -> bool:
        return is_https()


def configure(app: Flask) -> None:
    """Let the application keep its sessions this way."""
    app.session_interface = SessionInterface()
    # A form on a page that was left open is good for as long as the session is.
    app.config["WTF_CSRF_TIME_LIMIT"] = None


def current_key() -> ApiKey | None:
    """The key that this session was opened with, if it is still good."""
    key_id = session.get("key_id")
    return keys.find_good(key_id) if isinstance(key_id, int) else None


def entered_key(raw: str) -> ApiKey | None:
    """The good key that somebody typed or pasted; raises RateLimitExceeded for too many others."""
    key = keys.find(raw.strip(), current_app.extensions["settings"].key_pepper)
    if key is None:
        # Only failures count: a script may fetch its page as often as it likes.
        with limiter.shared_limit(FAILED_SIGN_INS, scope="sign-in", key_func=client_network):
            return None
    return key


def open_session() -> AnyResponse:
    """Sign in with a key."""
    key = entered_key(request.form.get("key", ""))
    if key is None:
        message = "This key is not known here. A new registration mails you a new one."
        return landing.page(key_error=message, status=401)
    _start(key)
    return redirect(url_for("site.dashboard"), 303)


def end_session() -> AnyResponse:
    """Sign out."""
    session.clear()
    return redirect(url_for("site.index"), 303)


def enter_by_url() -> AnyResponse | None:
    """Let a key in the URL in: a browser gets a session and a clean URL, others the page.

    Raises InvalidKey.
    """
    key = entered_key(request.args["key"])
    if key is None:
        raise InvalidKey("This key is not known here.")
    if is_navigation():
        _start(key)
        # The same page with whatever else it was asked, and without the key.
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
