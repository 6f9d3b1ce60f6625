"""Adjust, grant and delete: for scripts with the key (JSON answers) and for the panel's forms."""

from typing import Any

from flask import jsonify, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.admin import actor, fields
from promptly.models import User
from promptly.services import account_deletion
from promptly.services.ledger import adjustments, balances
from promptly.services.ledger.adjustments import Credit
from promptly.settings import current_settings
from promptly.transactions import transaction

FIELDS = ("key", "user_id", "email", "delta", "tokens", "days", "reference")


def adjust() -> AnyResponse:
    """Add or remove paid tokens; a removal stops at zero and reports the amount applied."""
    fields.refuse_duplicates(request.form, FIELDS)
    delta = fields.integer(request.form, "delta", -adjustments.MOST_TOKENS, adjustments.MOST_TOKENS)
    reference = fields.reference(request.form)
    with transaction():
        user = fields.account(request.form)
        credit = adjustments.adjust(user.id, delta, operator=actor.operator(), reference=reference)
        return _answer(user, credit)


def grant() -> AnyResponse:
    """Grant trial tokens that expire."""
    fields.refuse_duplicates(request.form, FIELDS)
    tokens = fields.integer(request.form, "tokens", 1, adjustments.MOST_TOKENS)
    days = fields.integer(request.form, "days", 1, adjustments.MOST_DAYS)
    reference = fields.reference(request.form)
    with transaction():
        user = fields.account(request.form)
        credit = adjustments.grant(
            user.id, tokens, days, operator=actor.operator(), reference=reference
        )
        return _answer(user, credit)


def delete() -> AnyResponse:
    """Delete an account; the answer describes what it owned."""
    fields.refuse_duplicates(request.form, FIELDS)
    with transaction():
        user = fields.account(request.form)
        user_id, email = user.id, user.email
        account_deletion.close(user_id, current_settings())
        owned = adjustments.standing(user_id)
        entry_id = actor.record("account.delete", user_id=user_id, before=owned)
    account_deletion.delete_account(user_id, current_settings())
    if actor.is_panel():
        return redirect(url_for("admin.users", act=entry_id), 303)
    taken = -(owned["paid_tokens"] + owned["trial_tokens"])
    return jsonify(_described(user_id, email, owned, taken))


def _answer(user: User, credit: Credit) -> AnyResponse:
    if actor.is_panel():
        target = url_for("admin.user", user_id=user.id, act=credit.entry_id)
        return redirect(target, 303)
    change = credit.change
    owned = {
        "paid_tokens": change.paid_tokens,
        "trial_tokens": change.trial_tokens,
        "trial_expires_at": change.trial_expires_at,
    }
    return jsonify(_described(user.id, user.email, owned, change.applied_delta))


def _described(
    user_id: int, email: str, owned: dict[str, Any], applied_delta: int
) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "email": email,
        "paid_tokens": owned["paid_tokens"],
        "trial_tokens": owned["trial_tokens"],
        "trial_expires_at": balances.iso(owned["trial_expires_at"]),
        "applied_delta": applied_delta,
    }
