"""What has just been done, told on the page that follows: read from the act's audit entry.

The URL carries the number of that entry, `act`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from promptly import money
from promptly.blueprints.admin import pages
from promptly.models import AuditEntry
from promptly.services import audit

Figures = dict[str, Any]


def notice(user_id: int | None = None, *, subject: str | None = None) -> str | None:
    """A sentence about the act that this URL names, if it was one on this account or subject."""
    number = pages.number("act")
    entry = None if number is None else audit.find(number)
    if entry is None or (user_id is not None and entry.user_id != user_id):
        return None
    return None if subject is not None and entry.subject != subject else told(entry)


def told(entry: AuditEntry) -> str | None:
    """The sentence about an act; None for one that no page tells of."""
    if entry.action in _BY_FIGURES:
        return _BY_FIGURES[entry.action](entry.after or {})
    sentence = _SENTENCES.get(entry.action)
    return sentence and sentence.format(user_id=entry.user_id, subject=entry.subject)


def _adjusted(after: Figures) -> str:
    applied = after.get("applied_delta", 0)
    if not applied:
        return "Nothing was changed: there was nothing to take that is not held."
    return f"{abs(applied):,} paid tokens were {'added' if applied > 0 else 'taken'}."


def _granted(after: Figures) -> str:
    return f"{after.get('applied_delta', 0):,} trial tokens were granted."


def _refunded(after: Figures) -> str:
    amount = money.shown(after.get("amount_minor", 0), after.get("currency", "USD"))
    return f"A refund of {amount} was written down; below stands what came of it."


def _checked(after: Figures) -> str:
    if after.get("problem"):
        return f"The provider could not be asked: {after['problem']}"
    if after.get("busy"):
        return "Somebody else is asking the provider about this purchase: look again in a moment."
    return "The provider was asked, and what it said has been applied."


_SENTENCES: Mapping[str, str] = {
    "account.delete": "Account {user_id} was deleted.",
    "hold.recover": "The request was settled at its last checkpoint.",
    "key.reissue": "All keys were revoked, and a new one is on its way by mail.",
    "key.revoke": "The key was revoked.",
    "mail.cancel": "The mail was cancelled.",
    "mail.resend": "The mail is sent again: within seconds, if the workers run.",
    "payment.reconcile": (
        "A comparison with the providers has been asked for. It begins within seconds and takes up"
        " to a few minutes; look again then."
    ),
    "payment.resolve": "Case {subject} was decided.",
    "webhook.replay": "The event is handled again: within seconds, if the workers run.",
}
_BY_FIGURES: Mapping[str, Callable[[Figures], str]] = {
    "balance.adjust": _adjusted,
    "balance.grant": _granted,
    "payment.check": _checked,
    "payment.refund": _refunded,
}
