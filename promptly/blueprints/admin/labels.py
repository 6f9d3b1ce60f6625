"""States, kinds and outcomes in plain words, for every page of the panel."""

from collections.abc import Mapping

OUTCOMES: Mapping[str, str] = {
    "completed": "completed",
    "balance_exhausted": "ended with the balance",
    "client_disconnected": "client gone",
    "rejected": "rejected",
    "upstream_error": "model server failed",
    "timeout": "timed out",
    "internal_error": "our error",
    "recovered": "recovered after a crash",
    "shutdown": "ended by a restart",
    "account_deleted": "ended by a deletion",
}

EVENTS: Mapping[str, str] = {
    "pending": "waits",
    "handled": "handled",
    "ignored": "of no interest",
    "parked": "parked",
}

MAILS: Mapping[str, str] = {
    "pending": "waits",
    "sent": "sent",
    "failed": "failed",
    "cancelled": "cancelled",
}

MAIL_KINDS: Mapping[str, str] = {
    "new_key": "a new key",
    "confirm_reissue": "confirm a new key",
    "confirm_deletion": "confirm a deletion",
    "receipt": "receipt",
    "refund_notice": "refund",
    "dispute_notice": "dispute",
    "low_balance": "low balance",
    "trial_ending": "trial ends",
}

CASES: Mapping[str, str] = {
    "paid_partial": "paid too little",
    "paid_late": "paid too late",
    "paid_over": "paid too much",
    "unconfirmed": "never confirmed",
    "amount": "another amount",
    "currency": "another currency",
    "livemode": "another mode",
    "second_checkout": "paid twice",
    "account_deleted": "account deleted",
    "unknown_order": "unknown purchase",
    "invalid": "withdrawn after a credit",
}

# What can be decided about a case: on a button, and what it does.
CHOICES: Mapping[str, tuple[str, str]] = {
    "credit": ("Credit", "The tokens of the pack are credited as if it had been paid in full."),
    "refund": ("Refund", "The provider is asked to give the money back."),
    "dismiss": ("Dismiss", "The case is closed. No tokens and no money move."),
    "take_back": ("Take back", "What is unspent of the credited tokens is taken back."),
}

RESOLUTIONS: Mapping[str, str] = {
    "credit": "credited",
    "refund": "refunded",
    "dismiss": "dismissed",
    "take_back": "taken back",
    "superseded": "decided by later events",
}

REVERSALS: Mapping[str, str] = {
    "refund": "refund",
    "dispute": "dispute",
    "invalidation": "payment withdrawn",
}

PROVIDERS: Mapping[str, str] = {"stripe": "Stripe", "btcpay": "BTCPay"}


def plain(known: Mapping[str, str], name: str) -> str:
    """The words for a name; what has none is shown as it is, without underscores."""
    return known.get(name, name.replace("_", " "))
