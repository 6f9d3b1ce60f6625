"""Rows of refunds and disputes as the panel shows them: amount, state, age, link to claim."""

from datetime import datetime
from typing import Any

from promptly import labels, money
from promptly.clock import utcnow
from promptly.models import Order, PaymentReversal
from promptly.services.payments import reversals, unfinished_refunds
from promptly.services.payments.funds import Funds, total

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


def given_back(order: Order) -> str:
    """Return the amount of an order that was given back, and the part that is on its way."""
    rows = reversals.of_order(order.id)
    amount = money.shown(Funds.of(order, rows).returned_minor, order.paid_in)
    on_its_way = total(row for row in rows if unfinished_refunds.is_unfinished(row))
    if not on_its_way:
        return amount
    return f"{amount}, of which {money.shown(on_its_way, order.paid_in)} is on its way"


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
