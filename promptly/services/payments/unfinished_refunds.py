"""Refunds whose money is not back yet: unanswered by the provider, unclaimed, or not paid out.

A Bitcoin refund is `offered` until the customer claims it, then `claimed` until the operator pays
it out in BTCPay.
"""

from typing import Any

from sqlalchemy import Select, func, or_, select

from promptly.extensions import db
from promptly.models import Order, PaymentReversal
from promptly.services.payments.funds import REQUESTED
from promptly.services.payments.reversals import OFFERED


def oldest(limit: int) -> list[tuple[PaymentReversal, Order]]:
    """Return unfinished refunds with their orders, oldest first."""
    query = _unfinished(PaymentReversal, Order).join(Order, Order.id == PaymentReversal.order_id)
    rows = db.session.execute(query.order_by(PaymentReversal.id).limit(limit))
    return [(refund, order) for refund, order in rows]


def is_unfinished(row: PaymentReversal) -> bool:
    """Whether the money of a refund is not back yet."""
    return row.active and row.state in {REQUESTED, *OFFERED}


def count_by_state() -> dict[str, int]:
    """Return the number of unfinished refunds in each state that has any."""
    query = _unfinished(PaymentReversal.state, func.count().label("number")).group_by(
        PaymentReversal.state
    )
    return {row.state: row.number for row in db.session.execute(query)}


def _unfinished(*columns: Any) -> Select[Any]:
    # Each state by itself, for the partial indexes.
    state = PaymentReversal.state
    return select(*columns).where(
        or_(state == REQUESTED, state.in_(OFFERED)), PaymentReversal.active
    )
