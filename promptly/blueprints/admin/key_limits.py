"""A key in the panel: its limits, a form to change them, the confirmation; for scripts, JSON."""

from typing import Any

from flask import jsonify, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import cap_periods, labels
from promptly.blueprints import key_limits as forms
from promptly.blueprints.admin import actor, confirmation, fields
from promptly.blueprints.admin.account_confirmations import facts_of, good_key
from promptly.blueprints.admin.confirmation import Confirmation
from promptly.errors import InvalidRequest, NotFound
from promptly.models import ApiKey
from promptly.services.accounts import accounts, key_activity, key_changes, key_limit_fields
from promptly.services.accounts import key_limits as stored
from promptly.transactions import transaction

FIELDS = ("key", "user_id", "email", "key_id", *key_changes.FIELDS)


def show(user_id: int, key_id: int) -> AnyResponse:
    """Show a key of an account, with a form for its limits."""
    return _page(good_key(user_id, key_id))


def confirm(user_id: int, key_id: int) -> AnyResponse:
    """Confirm new limits; show the form again if the input is invalid."""
    user, key = accounts.find(user_id=user_id), good_key(user_id, key_id)
    typed = forms.entered(request)
    limits = stored.of(key)
    try:
        key_limit_fields.parse(typed, limits)
    except InvalidRequest as problem:
        return _page(key, typed, problem)
    present = key_limit_fields.as_entered(limits) | {"name": key.name, "scope": str(key.scope)}
    changed = [
        (forms.LABELS[name], f"{value or 'none'}, was {present[name] or 'none'}")
        for name, value in typed.items()
        if value != present[name] and not (name == "per" and not typed.get("cap"))
    ]
    page = confirmation.ask(
        Confirmation(
            title="Change this key?",
            facts=[
                *facts_of(user),
                ("Key", key.name),
                ("Starts with", key.prefix),
                *(changed or [("Changes", "none")]),
            ],
            effects=[
                "It holds from the key's next request on. The customer is not notified by email.",
                "A cap counts what the key was charged in the present period already.",
            ],
            action=url_for("admin.limit_key"),
            button="Change",
            back=url_for("admin.key", user_id=user_id, key_id=key_id),
            user_id=user_id,
            fields={"key_id": str(key_id), **typed},
            danger=False,
        )
    )
    return make_response(page)


def limit() -> AnyResponse:
    """Change what the form has of a key's name, scope and limits; an empty limit is taken away."""
    fields.refuse_duplicates(request.form, FIELDS)
    key_id = fields.integer(request.form, "key_id", 1, fields.LARGEST_ID)
    typed = forms.entered(request)
    if not typed:
        raise InvalidRequest("Send at least one field to change, such as 'cap'.", param="cap")
    with transaction():
        user = fields.account(request.form)
        if user.closed_at is not None:
            raise NotFound("There is no such account.")
        changed = key_changes.change(user.id, key_id, typed, operator=actor.operator())
        if actor.is_panel():
            return redirect(url_for("admin.user", user_id=user.id, act=changed.entry_id), 303)
        described = stored.described(good_key(user.id, key_id))
    return jsonify(user_id=user.id, key_id=key_id, **described)


def _page(
    key: ApiKey, typed: dict[str, str] | None = None, problem: InvalidRequest | None = None
) -> AnyResponse:
    limits = stored.of(key)
    values: dict[str, Any] = {
        "key": key,
        "user": accounts.find(user_id=key.user_id),
        "limits": limits,
        "last_used": key_activity.last_used(key.user_id).get(key.id),
        "per": cap_periods.LABELS,
        "scopes": labels.SCOPES,
        "wrong": None if problem is None else problem.param,
        "message": None if problem is None else forms.plain(problem),
    }
    named = {"name": key.name, "scope": str(key.scope)} | (typed or {})
    page = render_template("admin/key.html", **values | forms.in_form(limits, named))
    return make_response(page, 200 if problem is None else 400)
