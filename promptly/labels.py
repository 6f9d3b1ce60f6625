"""Labels of states, kinds and outcomes on pages, in emails and in commands."""

from collections.abc import Mapping
from typing import Any

from promptly.models.states import (
    CaseKind,
    EventState,
    KeyScope,
    MailState,
    OrderState,
    Outcome,
    UpstreamState,
)

SCOPES: Mapping[KeyScope, str] = {
    KeyScope.INFERENCE: "API only",
    KeyScope.FULL: "full access",
}

OUTCOMES: Mapping[Outcome, str] = {
    Outcome.COMPLETED: "completed",
    Outcome.BALANCE_EXHAUSTED: "balance used up",
    Outcome.KEY_LIMIT_REACHED: "key's limit reached",
    Outcome.CLIENT_DISCONNECTED: "client disconnected",
    Outcome.REJECTED: "rejected",
    Outcome.UPSTREAM_ERROR: "model server failed",
    Outcome.TIMEOUT: "timed out",
    Outcome.INTERNAL_ERROR: "internal error",
    Outcome.RECOVERED: "recovered after a crash",
    Outcome.SHUTDOWN: "interrupted by a restart",
    Outcome.ACCOUNT_DELETED: "account deleted",
    Outcome.ACCOUNT_SUSPENDED: "account suspended",
}

ORDERS: Mapping[OrderState, str] = {
    OrderState.CREATED: "not started",
    OrderState.OPEN: "waiting for payment",
    OrderState.PROCESSING: "payment on its way",
    OrderState.ATTENTION: "under review",
    OrderState.EXPIRED: "expired",
    OrderState.FAILED: "failed",
    OrderState.PAID: "paid",
    OrderState.PARTLY_REFUNDED: "partly refunded",
    OrderState.REFUNDED: "refunded",
    OrderState.DISPUTED: "disputed",
    OrderState.CHARGED_BACK: "charged back",
    OrderState.INVALID: "payment reversed",
}

# Of an open order, once a part of its price has come.
PARTLY_PAID = "partly paid"

# For customers: colour and explanation of each outcome.
OUTCOME_NOTES: Mapping[str, tuple[str, str]] = {
    Outcome.COMPLETED: ("good", "The model finished its answer."),
    Outcome.BALANCE_EXHAUSTED: (
        "odd",
        "The balance covered no more output, so the answer ended there, with finish_reason length.",
    ),
    Outcome.KEY_LIMIT_REACHED: (
        "odd",
        "The key's limit covered no more output, so the answer ended there, with finish_reason "
        "length.",
    ),
    Outcome.CLIENT_DISCONNECTED: (
        "odd",
        "The connection was closed from your side. The tokens processed by then were charged.",
    ),
    Outcome.REJECTED: (
        "odd",
        "The model server refused the request, for instance because it exceeded its context.",
    ),
    Outcome.UPSTREAM_ERROR: (
        "bad",
        "The model server failed. If it had sent tokens by then, they were charged.",
    ),
    Outcome.TIMEOUT: (
        "bad",
        "A time limit was reached. If the model had sent tokens by then, they were charged.",
    ),
    Outcome.INTERNAL_ERROR: (
        "bad",
        "Something went wrong in promptly itself. The tokens processed by then were charged.",
    ),
    Outcome.RECOVERED: (
        "bad",
        "The gateway stopped during this request. The last recorded count was charged.",
    ),
    Outcome.SHUTDOWN: (
        "bad",
        "The service restarted during this request. The tokens processed by then were charged.",
    ),
    Outcome.ACCOUNT_DELETED: ("odd", "The account was deleted during this request."),
    Outcome.ACCOUNT_SUSPENDED: (
        "odd",
        "The operator suspended the account. The tokens processed by then were charged.",
    ),
}

EVENTS: Mapping[EventState, str] = {
    EventState.PENDING: "pending",
    EventState.HANDLED: "processed",
    EventState.IGNORED: "ignored",
    EventState.PARKED: "parked",
}

MAILS: Mapping[MailState, str] = {
    MailState.PENDING: "pending",
    MailState.SENT: "sent",
    MailState.FAILED: "failed",
    MailState.CANCELLED: "cancelled",
}

MAIL_KINDS: Mapping[str, str] = {
    "new_key": "new key",
    "confirm_reissue": "new key confirmation",
    "confirm_deletion": "deletion confirmation",
    "receipt": "receipt",
    "payment_notice": "incomplete payment",
    "refund_notice": "refund",
    "dispute_notice": "dispute",
    "low_balance": "low balance",
    "trial_ending": "trial ending",
    "key_created": "key created",
    "sign_in": "new sign-in",
    "operator_alert": "alert to the operator",
    "operator_digest": "digest for the operator",
}

CASES: Mapping[CaseKind, str] = {
    CaseKind.PAID_PARTIAL: "underpaid",
    CaseKind.PAID_LATE: "paid late",
    CaseKind.PAID_OVER: "overpaid",
    CaseKind.UNCONFIRMED: "not confirmed",
    CaseKind.AMOUNT: "amount mismatch",
    CaseKind.CURRENCY: "currency mismatch",
    CaseKind.LIVEMODE: "live/test mode mismatch",
    CaseKind.SECOND_CHECKOUT: "paid twice",
    CaseKind.ACCOUNT_DELETED: "account deleted",
    CaseKind.UNKNOWN_ORDER: "unknown purchase",
    CaseKind.INVALID: "payment reversed after credit",
    CaseKind.FRAUD_WARNING: "fraud warning",
}

# Button of each decision about a case, with its amount.
CHOICES: Mapping[str, str] = {
    "credit": "Credit {tokens} tokens",
    "credit_surplus": "Credit the surplus, {tokens} tokens",
    "refund": "Refund {amount}",
    "refund_all": "Refund all, {amount}",
    "take_back": "Take back {tokens} tokens",
    "dismiss": "Dismiss",
}
# The same of a case about a surplus, and of one that leaves money with the operator.
REFUND_SURPLUS = "Refund the surplus, {amount}"
DISMISS_AND_KEEP = "Dismiss and keep {amount}"

RESOLUTIONS: Mapping[str, str] = {
    "credit": "credited",
    "credit_surplus": "surplus credited",
    "refund_all": "all refunded",
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

# States of refunds that promptly names itself; the others are the provider's.
REFUND_STATES: Mapping[str, str] = {
    "requested": "no answer from the provider yet",
    "offered": "offered, not claimed yet",
    "claimed": "claimed: approve the payout in BTCPay",
    "archived": "archived without a payout",
    "by_hand": "recorded by hand",
}

UPSTREAMS: Mapping[UpstreamState, str] = {
    UpstreamState.READY: "ready",
    UpstreamState.DOWN: "unavailable",
    UpstreamState.DRAINING: "draining",
    UpstreamState.DRAINED: "drained",
}

# States of a slot: an unsettled one may still be busy with a request that was cut.
SLOTS: Mapping[str, str] = {"busy": "busy", "idle": "idle", "unsettled": "unsettled"}

# Classes of requests, which share the slots.
SERVICE_CLASSES: Mapping[str, str] = {"paying": "paying", "trial": "trial", "batch": "batch"}

PROVIDERS: Mapping[str, str] = {"stripe": "Stripe", "btcpay": "BTCPay"}


def plain(known: Mapping[Any, str], name: str) -> str:
    """Return the label of a name; an unknown name is shown without its underscores."""
    return known.get(name, name.replace("_", " "))


def note(outcome: str) -> tuple[str, str]:
    """Return the colour and explanation of an outcome; neutral and empty for an unknown one."""
    return OUTCOME_NOTES.get(outcome, ("odd", ""))
