"""A key's page on the dashboard: its limits, what is used of them, and a form to change them."""

from typing import Any

from flask import Response, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import cap_periods
from promptly.blueprints import key_limits as forms
from promptly.errors import Forbidden, InvalidRequest
from promptly.models import ApiKey
from promptly.services.accounts import key_activity, key_changes, key_limits, keys
from promptly.transactions import transaction

LEASHED = (
    "You are signed in with a key that has limits of its own, so you cannot change keys here. Sign"
    " in with a key without limits."
)


def show(key_id: int) -> AnyResponse:
    """On GET, show a key; on POST, change it."""
    owner: ApiKey = g.key
    if request.method != "POST":
        return _page(key_changes.find(owner.user_id, key_id))
    require_free_hand()
    typed = forms.entered(request)
    try:
        with transaction():
            key_changes.change(owner.user_id, key_id, typed)
    except InvalidRequest as problem:
        return _page(key_changes.find(owner.user_id, key_id), typed, problem)
    return redirect(url_for("site.key", key_id=key_id, saved="limits"), 303)


def require_free_hand() -> None:
    """Raise Forbidden in a session of a limited key, which could lift its own limits."""
    if is_leashed():
        raise Forbidden(LEASHED)


def is_leashed() -> bool:
    """Whether the key of this session has limits."""
    return key_limits.of(g.key).any


def _page(
    key: ApiKey, typed: dict[str, str] | None = None, problem: InvalidRequest | None = None
) -> Response:
    limits = key_limits.of(key)
    values: dict[str, Any] = {
        "key": key,
        "limits": limits,
        "is_own": key.id == g.key.id,
        "leashed": LEASHED if is_leashed() else None,
        "last_used": key_activity.last_used(key.user_id).get(key.id),
        "per": cap_periods.LABELS,
        "longest_name": keys.LONGEST_NAME,
        "saved": request.args.get("saved"),
        "wrong": None if problem is None else problem.param,
        "message": None if problem is None else forms.plain(problem),
    }
    named = {"name": key.name, "scope": str(key.scope)} | (typed or {})
    page = render_template("dashboard/key.html", **values, **forms.in_form(limits, named))
    return make_response(page, 200 if problem is None else 400)
