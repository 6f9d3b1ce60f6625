"""Signing in by a link with a key, and the question before that changes the account."""

from flask import (
    Response,
    g,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.navigation import is_navigation, query_without_key
from promptly.blueprints.site import sessions
from promptly.clock import utcnow
from promptly.errors import InvalidKey
from promptly.models import ApiKey
from promptly.models.states import KeyScope
from promptly.services.accounts import accounts, keys

# For how long a link that was opened can be confirmed.
CONFIRM_SECONDS = 600


def enter() -> AnyResponse | None:
    """Open a session for a browser with a key in the URL, and redirect to the URL without it.

    A browser that is signed in to another account is asked first: the link may come from somebody
    who wants its user to buy tokens for their account.

    Returns None for other clients: they get the page itself. Raises InvalidKey, and Forbidden for
    a key that may not open the dashboard.
    """
    key = sessions.entered_key(request.args["key"])
    if key is None:
        raise InvalidKey("This key is not valid.")
    if not is_navigation():
        sessions.use(key, None)
        return None
    signed_in = sessions.current()
    if signed_in is not None and signed_in.key.user_id != key.user_id:
        # The signed cookie keeps which key was shown; the key itself stays out of pages and URLs.
        session["switch_to"] = [key.id, int(utcnow().timestamp())]
        return redirect(url_for("site.switch_account"), 303)
    sessions.start(key)
    # The same page with all other arguments, without the key.
    if request.method != "GET" or request.endpoint is None:
        return redirect(url_for("site.dashboard"), 303)
    page = url_for(request.endpoint, **(request.view_args or {}))
    return redirect(f"{page}{query_without_key()}", 303)


def switch() -> AnyResponse | Response:
    """On GET, ask whether to sign in to the account of the link; on POST, do so."""
    key = _confirmable()
    if key is None or key.user_id == g.key.user_id:
        return redirect(url_for("site.dashboard"), 303)
    if request.method == "POST" and request.form.get("key_id") == str(key.id):
        sessions.start(key)
        return redirect(url_for("site.dashboard"), 303)
    # Also if another link was opened since the page was shown.
    return make_response(
        render_template(
            "dashboard/switch_account.html",
            current=accounts.find(user_id=g.key.user_id).email,
            other=accounts.find(user_id=key.user_id).email,
            key=key,
        )
    )


def _confirmable() -> ApiKey | None:
    """Return the key of the link opened last, if it is still valid and the link recent."""
    key_id, opened_at = session.get("switch_to", (0, 0))
    if utcnow().timestamp() - opened_at > CONFIRM_SECONDS:
        return None
    key = keys.find_active(key_id)
    return key if key is not None and key.scope == KeyScope.FULL else None
