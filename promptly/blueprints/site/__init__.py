"""Pages for customers: landing page, registration, sign-in, dashboard.

Every route requires a session unless it is in PUBLIC. Forms that act for a signed-in account carry
a CSRF token; every form is refused if a browser sent it from another site.
"""

from flask import Blueprint, Flask, Response, redirect, request, session, url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.wrappers import Response as AnyResponse

from promptly import proxies
from promptly.blueprints.page_headers import add_page_headers
from promptly.blueprints.site import (
    dashboard,
    deletion,
    export,
    key_limits,
    keys,
    landing,
    mails,
    open_sessions,
    receipts,
    registration,
    sessions,
    sign_in_links,
)
from promptly.blueprints.site.origins import refuse_foreign_posts
from promptly.extensions import csrf
from promptly.services.accounts.challenges import Challenges

PUBLIC = frozenset(
    {
        "site.index",
        "site.register",
        "site.challenge",
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


@blueprint.record_once
def configure(state: BlueprintSetupState) -> None:
    """Install the session interface, and create the challenges of registration."""
    app: Flask = state.app  # type: ignore[assignment]
    sessions.configure(app)
    app.extensions["registration_challenges"] = Challenges(
        app.extensions["settings"], app.extensions["hot_path_redis"]
    )


blueprint.add_url_rule("/", "index", landing.index)
blueprint.add_url_rule("/register", "register", registration.register, methods=["GET", "POST"])
blueprint.add_url_rule("/register/challenge", "challenge", registration.challenge)
blueprint.add_url_rule(
    "/register/confirm", "confirm_reissue", registration.confirm, methods=["GET", "POST"]
)
blueprint.add_url_rule("/session", "open_session", sessions.open_session, methods=["POST"])
blueprint.add_url_rule("/session/end", "end_session", sessions.end_session, methods=["POST"])
blueprint.add_url_rule(
    "/session/switch", "switch_account", sign_in_links.switch, methods=["GET", "POST"]
)
blueprint.add_url_rule("/dashboard", "dashboard", dashboard.dashboard)
blueprint.add_url_rule("/dashboard/mails", "mails", mails.choose, methods=["POST"])
blueprint.add_url_rule("/dashboard/requests", "requests", receipts.history)
blueprint.add_url_rule("/dashboard/requests/<request_id>", "receipt", receipts.receipt)
blueprint.add_url_rule("/dashboard/usage.csv", "export", export.statement)
blueprint.add_url_rule("/dashboard/keys", "create_key", keys.create, methods=["POST"])
blueprint.add_url_rule(
    "/dashboard/keys/<int:key_id>", "key", key_limits.show, methods=["GET", "POST"]
)
blueprint.add_url_rule(
    "/dashboard/keys/<int:key_id>/batch", "set_batch", keys.set_batch, methods=["POST"]
)
blueprint.add_url_rule(
    "/dashboard/keys/<int:key_id>/revoke", "revoke_key", keys.revoke, methods=["GET", "POST"]
)
blueprint.add_url_rule(
    "/dashboard/sessions/<int:session_id>/end",
    "end_other_session",
    open_sessions.end,
    methods=["POST"],
)
blueprint.add_url_rule(
    "/dashboard/sessions/end", "end_other_sessions", open_sessions.end_others, methods=["POST"]
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
        return sign_in_links.enter()
    signed_in = sessions.current()
    if signed_in is None:
        session.clear()
        return redirect(url_for("site.index"), 303)
    sessions.use(signed_in.key, signed_in.session_id)
    return None


@blueprint.after_request
def finish(response: Response) -> Response:
    """Add the security headers, and keep pages of an account out of caches."""
    private = request.endpoint not in PUBLIC or request.method == "POST"
    response.headers.setdefault("Cache-Control", "no-store" if private else "private, no-cache")
    return add_page_headers(response)
