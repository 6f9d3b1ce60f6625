"""Notices about the action just taken, composed from its audit entry.

The URL carries the entry's id as `act`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from promptly import money
from promptly.blueprints.admin import pages
from promptly.models import AuditEntry
from promptly.services import audit

Figures = dict[str, Any]


def notice(user_id: int | None = None, *, subject: str | None = None) -> str | None:
    """Return a sentence about the action in `act`, if it concerns this account and subject."""
    number = pages.number("act")
    entry = None if number is None else audit.find(number)
    if entry is None or (user_id is not None and entry.user_id != user_id):
        return None
    return None if subject is not None and entry.subject != subject else sentence(entry)


def sentence(entry: AuditEntry) -> str | None:
    """Return the sentence about an action; None if it has none."""
    if entry.action in _BY_FIGURES:
        return _BY_FIGURES[entry.action](entry.after or {})
    pattern = _SENTENCES.get(entry.action)
    return pattern and pattern.format(user_id=entry.user_id, subject=entry.subject)


def _adjusted(after: Figures) -> str:
    applied = after.get("applied_delta", 0)
    if not applied:
        return "No change: the account has no paid tokens that are not held by requests."
    return f"{abs(applied):,} paid tokens were {'added' if applied > 0 else 'removed'}."


def _granted(after: Figures) -> str:
    return f"{after.get('applied_delta', 0):,} trial tokens were granted."


def _refunded(after: Figures) -> str:
    amount = money.shown(after.get("amount_minor", 0), after.get("currency", "USD"))
    return f"A refund of {amount} was recorded. Its status is shown below."


def _checked(after: Figures) -> str:
    if after.get("problem"):
        return f"The check with the provider failed: {after['problem']}"
    if after.get("busy"):
        return "Another check of this purchase is in progress. Try again in a moment."
    return "The provider's current state has been fetched and applied."


_SENTENCES: Mapping[str, str] = {
    "account.delete": "Account {user_id} was deleted.",
    "account.limit": "The limits were set. They apply within seconds.",
    "key.limit": "The key was changed. It holds from its next request on.",
    "account.resume": "The account works again.",
    "account.suspend": "The account is suspended. Its running requests end within seconds.",
    "hold.recover": "The request was settled at its last checkpoint.",
    "key.batch": "The key was changed, from its next request on.",
    "key.reissue": "All keys were revoked. A new one is on its way by email.",
    "key.revoke": "The key was revoked.",
    "mail.cancel": "The email was cancelled.",
    "mail.resend": "The email will be sent within seconds, if the workers are running.",
    "payment.reconcile": (
        "Reconciliation requested. It starts within seconds and takes up to a few minutes;"
        " reload this page to see the result."
    ),
    "payment.read": "The amounts below are the provider's newest.",
    "payment.resolve": "Case {subject} was decided.",
    "upstream.drain": (
        "{subject} gets no new request. It is drained once the requests that it runs have ended."
    ),
    "upstream.resume": "{subject} gets requests again within seconds of answering.",
    "webhook.replay": "The event will be processed within seconds, if the workers are running.",
}
_BY_FIGURES: Mapping[str, Callable[[Figures], str]] = {
    "balance.adjust": _adjusted,
    "balance.grant": _granted,
    "payment.check": _checked,
    "payment.refund": _refunded,
}
