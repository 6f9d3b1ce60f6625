"""What will happen to an account, before it does; each of these pages has the button for it."""

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
    """What an adjustment would change; the form again if what was entered is wrong."""
    user, balance = accounts.find(user_id=user_id), balances.read(user_id)
    try:
        delta = fields.integer(
            request.args, "delta", -adjustments.MOST_TOKENS, adjustments.MOST_TOKENS
        )
    except InvalidRequest as problem:
        return _again(user, "Adjust paid tokens", {"delta": "Tokens"}, problem)
    paid, held = balance["paid_tokens"], balance["reserved_tokens"]
    word = "Add" if delta >= 0 else "Take"
    effects = []
    if paid + delta < 0:
        effects.append("There are not so many: what is there is taken.")
    if delta < 0 and held:
        effects.append(f"Of the {held:,} tokens that running requests hold none is taken.")
    return confirmation.ask(
        Confirmation(
            title="Adjust paid tokens",
            facts=[
                *_account(user),
                (word, f"{abs(delta):,} paid tokens"),
                ("Now", f"{paid:,}"),
                ("Then", f"{max(paid + delta, 0):,}"),
            ],
            effects=effects,
            action=url_for("admin.adjust"),
            button=f"{word} {abs(delta):,} tokens",
            back=_page_of(user),
            user_id=user_id,
            fields={"delta": str(delta), "reference": _reference()},
            danger=False,
        )
    )


def grant(user_id: int) -> AnyPage:
    """What a grant would change; the form again if what was entered is wrong."""
    user, balance = accounts.find(user_id=user_id), balances.read(user_id)
    try:
        tokens = fields.integer(request.args, "tokens", 1, adjustments.MOST_TOKENS)
        days = fields.integer(request.args, "days", 1, adjustments.MOST_DAYS)
    except InvalidRequest as problem:
        labels = {"tokens": "Tokens", "days": "Days"}
        return _again(user, "Grant trial tokens", labels, problem)
    trial, ends = balance["trial_tokens"], balance["trial_expires_at"]
    # The present trial may last longer, and then all of it does.
    ends_then = max(balances.iso(utcnow() + timedelta(days=days)) or "", ends or "")
    return confirmation.ask(
        Confirmation(
            title="Grant trial tokens",
            facts=[
                *_account(user),
                ("Grant", f"{tokens:,} tokens for {days} {'day' if days == 1 else 'days'}"),
                ("Now", f"{trial:,}" + (f", until {_moment(ends)}" if ends else "")),
                ("Then", f"{trial + tokens:,}, until {_moment(ends_then)}"),
            ],
            effects=[],
            action=url_for("admin.grant"),
            button=f"Grant {tokens:,} tokens",
            back=_page_of(user),
            user_id=user_id,
            fields={"tokens": str(tokens), "days": str(days), "reference": _reference()},
            danger=False,
        )
    )


def delete(user_id: int) -> AnyPage:
    """What the deletion of an account would take away."""
    user, balance = accounts.find(user_id=user_id), balances.read(user_id)
    lost = f"{balance['paid_tokens']:,} paid, {balance['trial_tokens']:,} trial"
    return confirmation.ask(
        Confirmation(
            title="Delete this account?",
            facts=[
                *_account(user),
                ("Tokens lost", lost),
                ("Keys refused", str(len(keys.list_good(user_id)))),
            ],
            effects=[
                "Running requests are ended and charged first.",
                "Then the account goes, with its keys, ledger, usage and mails.",
                "Purchases stay, without a name. Its mailbox gets no second trial.",
                "This cannot be undone.",
            ],
            action=url_for("admin.delete"),
            button=f"Delete {user.email}",
            back=_page_of(user),
            user_id=user_id,
        )
    )


def reissue(user_id: int) -> AnyPage:
    """Which keys would be refused, and where a new one would be mailed."""
    user, good = accounts.find(user_id=user_id), len(keys.list_good(user_id))
    return confirmation.ask(
        Confirmation(
            title="Revoke all keys and mail a new one?",
            facts=[*_account(user), ("Keys refused", str(good))],
            effects=[
                "They are refused from that moment on, and sessions of the dashboard end.",
                f"A new key is mailed to {user.email}. The balance is kept.",
            ],
            action=url_for("admin.reissue", user_id=user_id),
            button="Revoke and mail",
            back=_page_of(user),
            user_id=user_id,
        )
    )


def revoke(user_id: int, key_id: int) -> AnyPage:
    """Which key would be refused."""
    user, key = accounts.find(user_id=user_id), good_key(user_id, key_id)
    return confirmation.ask(
        Confirmation(
            title="Revoke this key?",
            facts=[*_account(user), ("Key", key.name), ("Begins with", key.prefix)],
            effects=["It is refused from that moment on. Nobody is told by mail."],
            action=url_for("admin.revoke", user_id=user_id, key_id=key_id),
            button="Revoke",
            back=_page_of(user),
            user_id=user_id,
        )
    )


def good_key(user_id: int, key_id: int) -> ApiKey:
    """A key of this account that is good; raises NotFound."""
    key = keys.find_good(key_id)
    if key is None or key.user_id != user_id:
        raise NotFound("There is no such key that is good.")
    return key


def _again(user: User, title: str, labels: dict[str, str], problem: InvalidRequest) -> Response:
    """The form with what was entered, and what is wrong about it."""
    # The label says which field it is.
    message = problem.message.replace(f"'{problem.param}'", "This")
    page = render_template(
        "admin/again.html",
        title=title,
        user=user,
        labels=labels,
        entered=request.args,
        wrong=problem.param,
        message=message,
    )
    return make_response(page, 400)


def _account(user: User) -> list[tuple[str, str]]:
    return [("Account", user.email), ("Number", str(user.id))]


def _page_of(user: User) -> str:
    return url_for("admin.user", user_id=user.id)


def _moment(iso: str) -> str:
    return f"{iso[:10]} {iso[11:16]} UTC"


def _reference() -> str:
    """What lets a form that is sent twice act once."""
    return f"panel-{secrets.token_hex(8)}"
