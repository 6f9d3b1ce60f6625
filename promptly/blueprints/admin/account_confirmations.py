"""Confirmation pages for changes to an account: the effects, and the button that applies them."""

import secrets
from datetime import timedelta

from flask import Response, make_response, render_template, request, url_for

from promptly.blueprints.admin import confirmation, fields
from promptly.blueprints.admin.confirmation import Confirmation
from promptly.clock import utcnow
from promptly.errors import InvalidRequest, NotFound
from promptly.models import ApiKey, User
from promptly.services.accounts import accounts, keys
from promptly.services.ledger import adjustments, balances

AnyPage = str | Response


def adjust(user_id: int) -> AnyPage:
    """Confirm an adjustment of paid tokens; show the form again if the input is invalid."""
    user, balance = accounts.find(user_id=user_id), balances.read(user_id)
    try:
        delta = fields.integer(
            request.args, "delta", -adjustments.MOST_TOKENS, adjustments.MOST_TOKENS
        )
    except InvalidRequest as problem:
        return ask_again(user, "Adjust paid tokens", {"delta": "Tokens"}, problem)
    paid, held = balance["paid_tokens"], balance["reserved_tokens"]
    word = "Add" if delta >= 0 else "Remove"
    effects = []
    if paid + delta < 0:
        effects.append("The account has fewer paid tokens: the balance stops at zero.")
    if delta < 0 and held:
        effects.append(f"The {held:,} tokens held by running requests are not affected.")
    return confirmation.ask(
        Confirmation(
            title="Adjust paid tokens",
            facts=[
                *facts_of(user),
                (word, f"{abs(delta):,} paid tokens"),
                ("Before", f"{paid:,}"),
                ("After", f"{max(paid + delta, 0):,}"),
            ],
            effects=effects,
            action=url_for("admin.adjust"),
            button=f"{word} {abs(delta):,} tokens",
            back=page_of(user),
            user_id=user_id,
            fields={"delta": str(delta), "reference": _reference()},
            danger=False,
        )
    )


def grant(user_id: int) -> AnyPage:
    """Confirm a grant of trial tokens; show the form again if the input is invalid."""
    user, balance = accounts.find(user_id=user_id), balances.read(user_id)
    try:
        tokens = fields.integer(request.args, "tokens", 1, adjustments.MOST_TOKENS)
        days = fields.integer(request.args, "days", 1, adjustments.MOST_DAYS)
    except InvalidRequest as problem:
        labels = {"tokens": "Tokens", "days": "Days"}
        return ask_again(user, "Grant trial tokens", labels, problem)
    trial, ends = balance["trial_tokens"], balance["trial_expires_at"]
    # If the current trial ends later, its expiry applies to all trial tokens.
    ends_then = max(balances.iso(utcnow() + timedelta(days=days)) or "", ends or "")
    return confirmation.ask(
        Confirmation(
            title="Grant trial tokens",
            facts=[
                *facts_of(user),
                ("Grant", f"{tokens:,} tokens for {days} {'day' if days == 1 else 'days'}"),
                ("Before", f"{trial:,}" + (f", until {_moment(ends)}" if ends else "")),
                ("After", f"{trial + tokens:,}, until {_moment(ends_then)}"),
            ],
            effects=[],
            action=url_for("admin.grant"),
            button=f"Grant {tokens:,} tokens",
            back=page_of(user),
            user_id=user_id,
            fields={"tokens": str(tokens), "days": str(days), "reference": _reference()},
            danger=False,
        )
    )


def delete(user_id: int) -> AnyPage:
    """Confirm the deletion of an account, listing what is lost."""
    user, balance = accounts.find(user_id=user_id), balances.read(user_id)
    lost = f"{balance['paid_tokens']:,} paid, {balance['trial_tokens']:,} trial"
    return confirmation.ask(
        Confirmation(
            title="Delete this account?",
            facts=[
                *facts_of(user),
                ("Tokens lost", lost),
                ("Keys revoked", str(len(keys.list_active(user_id)))),
            ],
            effects=[
                "Running requests are stopped and charged first.",
                "The account is then deleted with its keys, ledger, usage and emails.",
                "Purchases are kept without personal data. The mailbox gets no second trial.",
                "This cannot be undone.",
            ],
            action=url_for("admin.delete"),
            button=f"Delete {user.email}",
            back=page_of(user),
            user_id=user_id,
        )
    )


def reissue(user_id: int) -> AnyPage:
    """Confirm revoking all keys and emailing a new one."""
    user, active = accounts.find(user_id=user_id), len(keys.list_active(user_id))
    return confirmation.ask(
        Confirmation(
            title="Revoke all keys and email a new one?",
            facts=[*facts_of(user), ("Keys revoked", str(active))],
            effects=[
                "All keys stop working immediately, and dashboard sessions end.",
                f"A new key is emailed to {user.email}. The balance does not change.",
            ],
            action=url_for("admin.reissue", user_id=user_id),
            button="Revoke and email",
            back=page_of(user),
            user_id=user_id,
        )
    )


def revoke(user_id: int, key_id: int) -> AnyPage:
    """Confirm revoking one key."""
    user, key = accounts.find(user_id=user_id), good_key(user_id, key_id)
    return confirmation.ask(
        Confirmation(
            title="Revoke this key?",
            facts=[*facts_of(user), ("Key", key.name), ("Starts with", key.prefix)],
            effects=["It stops working immediately. The customer is not notified by email."],
            action=url_for("admin.revoke", user_id=user_id, key_id=key_id),
            button="Revoke",
            back=page_of(user),
            user_id=user_id,
        )
    )


def batch(user_id: int, key_id: int) -> AnyPage:
    """Confirm that the requests of a key yield to all others, or that they do not any more."""
    user, key = accounts.find(user_id=user_id), good_key(user_id, key_id)
    return confirmation.ask(
        Confirmation(
            title="Make this key normal?" if key.batch else "Make this a batch key?",
            facts=[*facts_of(user), ("Key", key.name), ("Starts with", key.prefix)],
            effects=[
                "From its next request on, it waits for slots like others."
                if key.batch
                else "From its next request on, its requests yield to all others that wait."
            ],
            action=url_for("admin.set_batch", user_id=user_id, key_id=key_id),
            button="Make normal" if key.batch else "Make batch",
            back=page_of(user),
            user_id=user_id,
            fields={} if key.batch else {"batch": "on"},
            danger=False,
        )
    )


def good_key(user_id: int, key_id: int) -> ApiKey:
    """Return an active key of this account; raise NotFound otherwise."""
    key = keys.find_active(key_id)
    if key is None or key.user_id != user_id:
        raise NotFound("This account has no such active key.")
    return key


def ask_again(
    user: User,
    title: str,
    labels: dict[str, str],
    problem: InvalidRequest,
    *,
    required: bool = True,
) -> Response:
    """Show the form again with the input and the error; `required` if no field may be empty."""
    # The label already names the field.
    message = problem.message.replace(f"'{problem.param}'", "This")
    page = render_template(
        "admin/again.html",
        title=title,
        user=user,
        labels=labels,
        entered=request.args,
        wrong=problem.param,
        message=message,
        required=required,
    )
    return make_response(page, 400)


def facts_of(user: User) -> list[tuple[str, str]]:
    return [("Account", user.email), ("Number", str(user.id))]


def page_of(user: User) -> str:
    return url_for("admin.user", user_id=user.id)


def _moment(iso: str) -> str:
    return f"{iso[:10]} {iso[11:16]} UTC"


def _reference() -> str:
    """Return an idempotency reference, so that a form sent twice acts once."""
    return f"panel-{secrets.token_hex(8)}"
