"""Keys on the dashboard: created and shown once, made batch keys or not, revoked."""

from typing import Any

from flask import (
    Response,
    g,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask import session as cookie
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints import key_limits as forms
from promptly.blueprints.site import dashboard, key_limits
from promptly.errors import InvalidRequest, NotFound
from promptly.models import ApiKey
from promptly.models.states import KeyScope
from promptly.services.accounts import accounts, key_limit_fields, keys
from promptly.services.accounts import key_limits as stored
from promptly.settings import current_settings
from promptly.transactions import transaction


def create() -> Response:
    """Create a key and show it in this response only; only its hash is stored."""
    key: ApiKey = g.key
    settings = current_settings()
    name = request.form.get("name", "")
    entered = request.form.get("scope", KeyScope.INFERENCE)
    batch = "batch" in request.form
    key_limits.require_free_hand()
    typed = forms.entered(request)
    try:
        limits = key_limit_fields.parse(typed)
        with transaction():
            accounts.lock(key.user_id)
            scope = keys.checked_scope(entered)
            row, raw = keys.create_named(
                key.user_id, name, settings.key_pepper, scope=scope, batch=batch
            )
            if limits:
                stored.set_limits(key.user_id, row.id, limits)
            stored_name = row.name
    except InvalidRequest as problem:
        wrong = {"scope": "scope_error", "name": "key_error"}.get(problem.param or "")
        errors: dict[str, Any] = (
            {wrong: problem.message}
            if wrong
            else {"limit_wrong": problem.param, "limit_message": forms.plain(problem)}
        )
        return dashboard.page(
            status=400,
            key_name=name,
            key_scope=entered,
            key_batch="on" if batch else "",
            **errors,
            **forms.in_form(None, typed),
        )
    return make_response(
        render_template(
            "dashboard/key_created.html",
            name=stored_name,
            scope=scope,
            batch=batch,
            raw_key=raw,
            base_url=settings.base_url,
        )
    )


def set_batch(key_id: int) -> AnyResponse:
    """Let the requests of a key yield to all others if the form has `batch`, else not."""
    key: ApiKey = g.key
    key_limits.require_free_hand()
    with transaction():
        accounts.lock(key.user_id)
        if keys.set_batch(key.user_id, key_id, "batch" in request.form) is None:
            raise NotFound("This key does not exist or has been revoked.")
    return redirect(url_for("site.dashboard", saved="batch", _anchor="keys"), 303)


def revoke(key_id: int) -> AnyResponse:
    """On GET, ask for confirmation; on POST, revoke the key."""
    signed_in_with: ApiKey = g.key
    user_id, own_id = signed_in_with.user_id, signed_in_with.id
    active = {key.id: key for key in keys.list_active(user_id)}
    if key_id not in active:
        raise NotFound("This key does not exist or has been revoked.")
    if request.method != "POST":
        return make_response(
            render_template(
                "dashboard/revoke_key.html",
                key=active[key_id],
                signed_in_with=key_id == own_id,
                last=len(active) == 1,
                last_full=_is_last_full(active[key_id], list(active.values())),
            )
        )
    with transaction():
        accounts.lock(user_id)
        keys.revoke(user_id, key_id)
    if key_id == own_id:
        cookie.clear()
        return redirect(url_for("site.index"), 303)
    return redirect(url_for("site.dashboard", saved="key", _anchor="keys"), 303)


def _is_last_full(key: ApiKey, active: list[ApiKey]) -> bool:
    return [other.id for other in active if other.scope == KeyScope.FULL] == [key.id]
