"""Pages for customers: landing page, registration, sign-in, dashboard.

Every route requires a session unless it is in PUBLIC. Forms that act for a signed-in account carry
a CSRF token; every form is refused if a browser sent it from another site.
"""

from flask import Blueprint, Response, g, redirect, request, session, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import proxies
from promptly.blueprints.page_headers import add_page_headers
from promptly.blueprints.site import (
    dashboard,
    deletion,
    export,
    keys,
    landing,
    mails,
    receipts,
    registration,
    sessions,
)
from promptly.blueprints.site.origins import refuse_foreign_posts
from promptly.extensions import csrf

PUBLIC = frozenset(
    {
        "site.index",
        "site.register",
        "site.confirm_reissue",
        "site.confirm_deletion",
        "site.open_session",
        "site.end_session",
    }
)
# Documented for use with curl, or authorised by a key or signed link in the form.
WITHOUT_FORM_TOKEN = frozenset(
    {"site.register", "site.confirm_reissue", "site.confirm_deletion", "site.open_session"}
)

blueprint = Blueprint("site", __name__)
blueprint.record_once(lambda state: sessions.configure(state.app))  # type: ignore[arg-type]

blueprint.add_url_rule("/", "index", landing.index)
blueprint.add_url_rule("/register", "register", registration.register, methods=["GET", "POST"])
blueprint.add_url_rule(
    "/register/confirm", "confirm_reissue", registration.confirm, methods=["GET", "POST"]
)
blueprint.add_url_rule("/session", "open_session", sessions.open_session, methods=["POST"])
blueprint.add_url_rule("/session/end", "end_session", sessions.end_session, methods=["POST"])
blueprint.add_url_rule("/dashboard", "dashboard", dashboard.dashboard)
blueprint.add_url_rule("/dashboard/mails", "mails", mails.choose, methods=["POST"])
blueprint.add_url_rule("/dashboard/requests", "requests", receipts.history)
blueprint.add_url_rule("/dashboard/requests/<request_id>", "receipt", receipts.receipt)
blueprint.add_url_rule("/dashboard/usage.csv", "export", export.statement)
blueprint.add_url_rule("/dashboard/keys", "create_key", keys.create, methods=["POST"])
blueprint.add_url_rule(
    "/dashboard/keys/<int:key_id>/revoke", "revoke_key", keys.revoke, methods=["GET", "POST"]
)
blueprint.add_url_rule("/dashboard/delete", "delete", deletion.ask, methods=["GET", "POST"])
blueprint.add_url_rule(
    "/dashboard/delete/confirm", "confirm_deletion", deletion.confirm, methods=["GET", "POST"]
)


@blueprint.before_request
def guard() -> AnyResponse | None:
    """Refuse forged forms; redirect requests without a session to the landing page."""
    proxies.record_hop_count()
    if request.method == "POST":
        refuse_foreign_posts()
        if request.endpoint not in WITHOUT_FORM_TOKEN and "key_id" in session:
            csrf.protect()
    if request.endpoint in PUBLIC:
        return None
    if request.args.get("key"):
        return sessions.enter_by_url()
    g.key = sessions.current_key()
    if g.key is None:
        session.clear()
        return redirect(url_for("site.index"), 303)
    return None


@blueprint.after_request
def finish(response: Response) -> Response:
    """Add the security headers, and keep pages of an account out of caches."""
    private = request.endpoint not in PUBLIC or request.method == "POST"
    response.headers.setdefault("Cache-Control", "no-store" if private else "private, no-cache")
    return add_page_headers(response)
