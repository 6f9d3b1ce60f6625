"""Operator panel, and the form API for scripts.

Every route requires an allowed client address and an admin key, or a session opened with it;
`guard` is the only place that checks both.
"""

from flask import Blueprint, Flask, Response, g, request
from flask.blueprints import BlueprintSetupState
from werkzeug.wrappers import Response as AnyResponse

from promptly import proxies
from promptly.blueprints import form_body
from promptly.blueprints.admin import (
    access,
    account_confirmations,
    account_keys,
    account_limits,
    actor,
    audit_log,
    cases,
    form_api,
    holds,
    key_limits,
    limit_confirmations,
    outbox,
    overview,
    purchases,
    reconciliations,
    refunding,
    servers,
    sessions,
    sign_in,
    user,
    users,
    webhook_events,
)
from promptly.blueprints.admin.fields import LARGEST_ID
from promptly.blueprints.admin.throttle import Throttle
from promptly.blueprints.page_headers import add_page_headers
from promptly.blueprints.site.origins import refuse_foreign_posts
from promptly.errors import Forbidden, InvalidRequest
from promptly.extensions import csrf

FORM_API = frozenset(
    {
        "admin.adjust",
        "admin.grant",
        "admin.delete",
        "admin.limit",
        "admin.limit_key",
        "admin.suspend",
        "admin.resume",
    }
)
FORM = "application/x-www-form-urlencoded"

USER, KEY, CASE, EVENT, MAIL = (
    f"<int(max={LARGEST_ID}):{name}>"
    for name in ("user_id", "key_id", "case_id", "event_id", "mail_id")
)

# Endpoint and label of each entry of the panel's navigation.
NAVIGATION = (
    ("admin.overview", "Overview"),
    ("admin.users", "Users"),
    ("admin.purchases", "Purchases"),
    ("admin.webhooks", "Webhooks"),
    ("admin.outbox", "Email"),
    ("admin.holds", "Holds"),
    ("admin.servers", "Servers"),
    ("admin.audit", "Audit"),
)

blueprint = Blueprint("admin", __name__, url_prefix="/admin")

blueprint.add_url_rule("", "overview", overview.overview, strict_slashes=False)
blueprint.add_url_rule("/session", "open_session", sign_in.open_session, methods=["POST"])
blueprint.add_url_rule("/session/end", "end_session", sign_in.end_session, methods=["POST"])

blueprint.add_url_rule("/adjust", "adjust", form_api.adjust, methods=["POST"])
blueprint.add_url_rule("/grant", "grant", form_api.grant, methods=["POST"])
blueprint.add_url_rule("/delete", "delete", form_api.delete, methods=["POST"])
blueprint.add_url_rule("/limit", "limit", account_limits.limit, methods=["POST"])
blueprint.add_url_rule("/limit-key", "limit_key", key_limits.limit, methods=["POST"])
blueprint.add_url_rule("/suspend", "suspend", account_limits.suspend, methods=["POST"])
blueprint.add_url_rule("/resume", "resume", account_limits.resume, methods=["POST"])

blueprint.add_url_rule("/users", "users", users.users)
blueprint.add_url_rule(f"/users/{USER}", "user", user.user)
blueprint.add_url_rule(f"/users/{USER}/ledger", "user_ledger", user.user_ledger)
blueprint.add_url_rule(f"/users/{USER}/adjust", "confirm_adjust", account_confirmations.adjust)
blueprint.add_url_rule(f"/users/{USER}/grant", "confirm_grant", account_confirmations.grant)
blueprint.add_url_rule(f"/users/{USER}/delete", "confirm_delete", account_confirmations.delete)
blueprint.add_url_rule(f"/users/{USER}/limit", "confirm_limit", limit_confirmations.limit)
blueprint.add_url_rule(f"/users/{USER}/suspend", "confirm_suspend", limit_confirmations.suspend)
blueprint.add_url_rule(f"/users/{USER}/resume", "confirm_resume", limit_confirmations.resume)
blueprint.add_url_rule(f"/users/{USER}/reissue", "confirm_reissue", account_confirmations.reissue)
blueprint.add_url_rule(f"/users/{USER}/reissue", "reissue", account_keys.reissue, methods=["POST"])
blueprint.add_url_rule(f"/users/{USER}/keys/{KEY}", "key", key_limits.show)
blueprint.add_url_rule(f"/users/{USER}/keys/{KEY}/limits", "confirm_key_limits", key_limits.confirm)
blueprint.add_url_rule(
    f"/users/{USER}/keys/{KEY}/revoke", "confirm_revoke", account_confirmations.revoke
)
blueprint.add_url_rule(
    f"/users/{USER}/keys/{KEY}/revoke", "revoke", account_keys.revoke, methods=["POST"]
)
blueprint.add_url_rule(
    f"/users/{USER}/keys/{KEY}/batch", "confirm_batch", account_confirmations.batch
)
blueprint.add_url_rule(
    f"/users/{USER}/keys/{KEY}/batch", "set_batch", account_keys.set_batch, methods=["POST"]
)
blueprint.add_url_rule("/audit", "audit", audit_log.entries)

blueprint.add_url_rule("/purchases", "purchases", purchases.index)
blueprint.add_url_rule("/purchases/<number>", "purchase", purchases.one)
blueprint.add_url_rule("/purchases/<number>/check", "check", purchases.check, methods=["POST"])
blueprint.add_url_rule("/purchases/<number>/refund", "confirm_refund", refunding.question)
blueprint.add_url_rule("/purchases/<number>/refund", "refund", refunding.refund, methods=["POST"])
blueprint.add_url_rule("/cases", "cases", cases.index)
blueprint.add_url_rule(f"/cases/{CASE}", "case", cases.one)
blueprint.add_url_rule(f"/cases/{CASE}", "resolve", cases.resolve, methods=["POST"])
blueprint.add_url_rule(f"/cases/{CASE}/check", "check_case", cases.check, methods=["POST"])
blueprint.add_url_rule("/reconciliations", "reconciliations", reconciliations.index)
blueprint.add_url_rule("/reconciliations", "reconcile", reconciliations.begin, methods=["POST"])
blueprint.add_url_rule("/webhooks", "webhooks", webhook_events.index)
blueprint.add_url_rule(f"/webhooks/{EVENT}", "webhook", webhook_events.one)
blueprint.add_url_rule(
    f"/webhooks/{EVENT}/replay", "replay", webhook_events.replay, methods=["POST"]
)
blueprint.add_url_rule("/outbox", "outbox", outbox.index)
blueprint.add_url_rule(f"/outbox/{MAIL}", "mail", outbox.one)
blueprint.add_url_rule(f"/outbox/{MAIL}/resend", "confirm_resend", outbox.resend_question)
blueprint.add_url_rule(f"/outbox/{MAIL}/resend", "resend_mail", outbox.resend, methods=["POST"])
blueprint.add_url_rule(f"/outbox/{MAIL}/cancel", "confirm_cancel", outbox.cancel_question)
blueprint.add_url_rule(f"/outbox/{MAIL}/cancel", "cancel_mail", outbox.cancel, methods=["POST"])
blueprint.add_url_rule("/holds", "holds", holds.index)
blueprint.add_url_rule("/holds/<request_id>/recover", "confirm_recover", holds.recover_question)
blueprint.add_url_rule(
    "/holds/<request_id>/recover", "recover_hold", holds.recover, methods=["POST"]
)
blueprint.add_url_rule("/servers", "servers", servers.index)
blueprint.add_url_rule("/servers/drain", "confirm_drain_server", servers.drain_question)
blueprint.add_url_rule("/servers/drain", "drain_server", servers.drain, methods=["POST"])
blueprint.add_url_rule("/servers/resume", "confirm_resume_server", servers.resume_question)
blueprint.add_url_rule("/servers/resume", "resume_server", servers.resume, methods=["POST"])


@blueprint.record_once
def configure(state: BlueprintSetupState) -> None:
    """Create the throttle for wrong keys, and make the navigation a template global."""
    app: Flask = state.app  # type: ignore[assignment]
    app.extensions["admin_throttle"] = Throttle(app.extensions["hot_path_redis"])
    app.jinja_env.globals["admin_navigation"] = NAVIGATION


@blueprint.before_request
def guard() -> AnyResponse | None:
    """Check address and key or session; raise Forbidden, or return the sign-in form."""
    # Without a session cookie, assume a script; `_guard_post` looks for a key in the body, too.
    g.answers_json = request.endpoint in FORM_API and sessions.COOKIE not in request.cookies
    proxies.record_hop_count()
    g.admin_address = access.allowed_address()
    access.require_configured_key()
    if request.method == "POST":
        return _guard_post()
    if request.args.get("key"):
        name = access.check_key(request.args["key"], g.admin_address)
        actor.use_api(name)
        return sign_in.enter_by_url(name)
    return None if _has_session() else sign_in.page()


@blueprint.before_app_request
def guard_unknown() -> AnyResponse | None:
    """Guard unknown URLs and methods below /admin, so that strangers cannot probe for routes."""
    if request.routing_exception is None or not _is_below():
        return None
    form_body.read()
    return guard()


def _is_below() -> bool:
    return request.path == "/admin" or request.path.startswith("/admin/")


def _guard_post() -> AnyResponse | None:
    if request.mimetype not in {"", FORM}:
        raise InvalidRequest(f"Send the fields as {FORM}.")
    if "key" in request.form:
        # A request with a key needs no CSRF token, and its cookies are ignored.
        g.answers_json = request.endpoint in FORM_API
        refuse_foreign_posts()
        if request.endpoint != "admin.open_session":
            actor.use_api(access.check_key(request.form["key"], g.admin_address))
        return None
    refuse_foreign_posts()
    if not _has_session():
        raise Forbidden
    csrf.protect()
    return None


def _has_session() -> bool:
    session = g.panel_session = sessions.current()
    if session is None:
        return False
    actor.use_panel(session.name)
    return True


@blueprint.after_app_request
def finish(response: Response) -> Response:
    """Renew the session, and keep panel pages out of caches and search engines."""
    if not _is_below():
        return response
    sessions.renew(response)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return add_page_headers(response)
