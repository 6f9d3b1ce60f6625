"""Labels of states, kinds and outcomes on the panel's pages."""

from collections.abc import Mapping

OUTCOMES: Mapping[str, str] = {
    "completed": "completed",
    "balance_exhausted": "balance used up",
    "client_disconnected": "client disconnected",
    "rejected": "rejected",
    "upstream_error": "model server failed",
    "timeout": "timed out",
    "internal_error": "internal error",
    "recovered": "recovered after a crash",
    "shutdown": "interrupted by a restart",
    "account_deleted": "account deleted",
}

EVENTS: Mapping[str, str] = {
    "pending": "pending",
    "handled": "processed",
    "ignored": "ignored",
    "parked": "parked",
}

MAILS: Mapping[str, str] = {
    "pending": "pending",
    "sent": "sent",
    "failed": "failed",
    "cancelled": "cancelled",
}

MAIL_KINDS: Mapping[str, str] = {
    "new_key": "new key",
    "confirm_reissue": "new key confirmation",
    "confirm_deletion": "deletion confirmation",
    "receipt": "receipt",
    "refund_notice": "refund",
    "dispute_notice": "dispute",
    "low_balance": "low balance",
    "trial_ending": "trial ending",
}

CASES: Mapping[str, str] = {
    "paid_partial": "underpaid",
    "paid_late": "paid late",
    "paid_over": "overpaid",
    "unconfirmed": "not confirmed",
    "amount": "amount mismatch",
    "currency": "currency mismatch",
    "livemode": "live/test mode mismatch",
    "second_checkout": "paid twice",
    "account_deleted": "account deleted",
    "unknown_order": "unknown purchase",
    "invalid": "payment reversed after credit",
}

# Button label and effect of each decision about a case.
CHOICES: Mapping[str, tuple[str, str]] = {
    "credit": ("Credit", "The pack's tokens are credited as if it had been paid in full."),
    "refund": ("Refund", "The provider is asked to return the money."),
    "dismiss": ("Dismiss", "The case is closed. No tokens or money are moved."),
    "take_back": ("Take back", "The unspent part of the credited tokens is taken back."),
}

RESOLUTIONS: Mapping[str, str] = {
    "credit": "credited",
    "refund": "refunded",
    "dismiss": "dismissed",
    "take_back": "taken back",
    "superseded": "superseded by later events",
}

REVERSALS: Mapping[str, str] = {
    "refund": "refund",
    "dispute": "dispute",
    "invalidation": "payment reversed",
}

PROVIDERS: Mapping[str, str] = {"stripe": "Stripe", "btcpay": "BTCPay"}


def plain(known: Mapping[str, str], name: str) -> str:
    """Return the label of a name; an unknown name is shown without its underscores."""
    return known.get(name, name.replace("_", " "))
