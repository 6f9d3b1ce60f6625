"""An account's limits and its suspension: for scripts with the key, and for the panel's forms."""

from flask import jsonify, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.admin import actor, fields
from promptly.errors import InvalidRequest
from promptly.models import User
from promptly.services.accounts import account_limits
from promptly.services.accounts.account_limits import (
    MOST_CONCURRENT_REQUESTS,
    MOST_REQUESTS_PER_MINUTE,
    AccountLimits,
    LimitChanges,
)
from promptly.services.ledger import adjustments, balances
from promptly.transactions import transaction

FIELDS = ("key", "user_id", "email", "requests_per_minute", "concurrent_requests")


def limit() -> AnyResponse:
    """Set the limits that the form has; an empty one restores the installation's."""
    fields.refuse_duplicates(request.form, FIELDS)
    changes = chosen(request.form)
    with transaction():
        user = fields.account(request.form)
        return _answer(user, account_limits.set_limits(user.id, changes, operator=actor.operator()))


def suspend() -> AnyResponse:
    """Suspend an account; its keys are refused from now on."""
    fields.refuse_duplicates(request.form, FIELDS)
    with transaction():
        user = fields.account(request.form)
        return _answer(user, account_limits.suspend(user.id, operator=actor.operator()))


def resume() -> AnyResponse:
    """End an account's suspension."""
    fields.refuse_duplicates(request.form, FIELDS)
    with transaction():
        user = fields.account(request.form)
        return _answer(user, account_limits.resume(user.id, operator=actor.operator()))


def chosen(form: fields.Form) -> LimitChanges:
    """Parse the limits that a form has; raise InvalidRequest for a wrong one, and without any."""
    changes: LimitChanges = {}
    if "requests_per_minute" in form:
        changes["requests_per_minute"] = fields.optional_integer(
            form, "requests_per_minute", 1, MOST_REQUESTS_PER_MINUTE
        )
    if "concurrent_requests" in form:
        changes["concurrent_requests"] = fields.optional_integer(
            form, "concurrent_requests", 1, MOST_CONCURRENT_REQUESTS
        )
    if not changes:
        raise InvalidRequest(
            "Send 'requests_per_minute' or 'concurrent_requests', empty for the default.",
            param="requests_per_minute",
        )
    return changes


def _answer(user: User, limits: AccountLimits) -> AnyResponse:
    if actor.is_panel():
        return redirect(url_for("admin.user", user_id=user.id, act=limits.entry_id), 303)
    owned = adjustments.standing(user.id)
    return jsonify(
        user_id=user.id,
        email=user.email,
        paid_tokens=owned["paid_tokens"],
        trial_tokens=owned["trial_tokens"],
        trial_expires_at=balances.iso(owned["trial_expires_at"]),
        applied_delta=0,
        requests_per_minute=limits.requests_per_minute,
        concurrent_requests=limits.concurrent_requests,
        suspended_at=balances.iso(limits.suspended_at),
    )
