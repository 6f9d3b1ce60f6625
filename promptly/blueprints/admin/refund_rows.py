"""Rows of refunds and disputes as the panel shows them: amount, state, age, link to claim."""

from datetime import datetime
from typing import Any

from promptly import labels, money
from promptly.clock import utcnow
from promptly.models import Order, PaymentReversal
from promptly.services.payments import unfinished_refunds

MOST_SHOWN = 50


def row_of(row: PaymentReversal, order: Order) -> dict[str, Any]:
    """Return the fields shown of one; `claim_link` only until the customer has used it."""
    return {
        "row": row,
        "number": order.number,
        "label": labels.plain(labels.REVERSALS, row.kind),
        "state": labels.plain(labels.REFUND_STATES, row.state),
        "amount": money.shown(row.amount_minor, order.paid_in),
        "age": _age(row.created_at),
        "counts": row.active and row.counts,
        "claim_link": row.link if row.active and row.state == "offered" else None,
    }


def unfinished() -> list[dict[str, Any]]:
    """Return the refunds whose money is not back yet, oldest first."""
    return [row_of(row, order) for row, order in unfinished_refunds.oldest(MOST_SHOWN)]


def _age(since: datetime) -> str:
    """Return how long ago a moment was, in its largest unit."""
    seconds = max(0, int((utcnow() - since).total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        number = seconds // length
        if number:
            return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"
    return "less than a minute"
