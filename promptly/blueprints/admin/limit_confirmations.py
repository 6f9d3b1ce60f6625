"""Confirmation pages for changes of an account's limits and for its suspension."""

from flask import Response, request, url_for

from promptly.blueprints.admin import account_confirmations, account_limits, confirmation
from promptly.blueprints.admin.account_confirmations import facts_of, page_of
from promptly.blueprints.admin.confirmation import Confirmation
from promptly.errors import InvalidRequest
from promptly.services.accounts import accounts, keys
from promptly.services.ledger import balances
from promptly.settings import Settings, current_settings

LABELS = {
    "requests_per_minute": "Requests per minute",
    "concurrent_requests": "Concurrent requests",
}


def defaults(settings: Settings, *, pays: bool) -> dict[str, str]:
    """Return the limits of accounts without their own, in words; trials run fewer requests."""
    concurrent = settings.max_concurrent_requests
    if not pays:
        concurrent = min(concurrent, settings.trial_concurrent_requests)
    return {
        "requests_per_minute": (
            f"{settings.inference_user_rate_limit:,} per key,"
            f" {settings.inference_ip_rate_limit:,} per address"
        ),
        "concurrent_requests": f"{concurrent:,}",
    }


def limit(user_id: int) -> str | Response:
    """Confirm new limits; show the form again if the input is invalid."""
    user = accounts.find(user_id=user_id)
    try:
        changes = account_limits.chosen(request.args)
    except InvalidRequest as problem:
        return account_confirmations.ask_again(user, "Set limits", LABELS, problem, required=False)
    usual = defaults(current_settings(), pays=balances.read(user_id)["paid_tokens"] > 0)
    facts = facts_of(user)
    for name, value in changes.items():
        was, new = (_shown(each, usual[name]) for each in (getattr(user, name), value))
        facts.append((LABELS[name], f"{new}, unchanged" if new == was else f"{new}, was {was}"))
    entered = {name: "" if value is None else str(value) for name, value in changes.items()}
    return confirmation.ask(
        Confirmation(
            title="Set limits",
            facts=facts,
            effects=[
                "A rate of its own counts all keys of the account together, from any address.",
                "New limits apply within seconds. Running requests go on.",
            ],
            action=url_for("admin.limit"),
            button="Set limits",
            back=page_of(user),
            user_id=user_id,
            fields=entered,
            danger=False,
        )
    )


def suspend(user_id: int) -> str:
    """Confirm suspending an account."""
    user = accounts.find(user_id=user_id)
    return confirmation.ask(
        Confirmation(
            title="Suspend this account?",
            facts=[*facts_of(user), ("Keys refused", str(len(keys.list_active(user_id))))],
            effects=[
                "Its running requests end within seconds and are charged.",
                "Its keys are refused until you resume it. They are not revoked.",
                "Its balance is kept. It cannot buy tokens; payments on their way are credited.",
                "Its dashboard stays open and says that the account is suspended.",
            ],
            action=url_for("admin.suspend"),
            button=f"Suspend {user.email}",
            back=page_of(user),
            user_id=user_id,
        )
    )


def resume(user_id: int) -> str:
    """Confirm resuming an account."""
    user = accounts.find(user_id=user_id)
    return confirmation.ask(
        Confirmation(
            title="Resume this account?",
            facts=[*facts_of(user), ("Keys accepted", str(len(keys.list_active(user_id))))],
            effects=["Its keys work again immediately."],
            action=url_for("admin.resume"),
            button=f"Resume {user.email}",
            back=page_of(user),
            user_id=user_id,
            danger=False,
        )
    )


def _shown(limit: object, usual: str) -> str:
    return f"the default ({usual})" if limit is None else f"{limit:,}"
