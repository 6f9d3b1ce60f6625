"""Refunds, disputes and invalidations, and the tokens taken and given back with them.

The reversed part of an order's price (refunds and open or lost disputes together, the price at
most) determines how many of its tokens are reversed: in proportion, rounded down, all of them for
the whole price. Those that are unspent in the order's lot and not held by a running request are
taken; the rest is owed: noted for the operator and never taken from another lot. When less is
reversed again, because a dispute was won or a refund failed, the debt is cancelled first, then
taken tokens are given back. So the result does not depend on the order of the reports.
"""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.sql import func

from promptly.extensions import db
from promptly.models import Order, PaymentReversal
from promptly.services.ledger import ledger
from promptly.services.payments import lots, notifications, orders
from promptly.services.payments.notifications import OrderView
from promptly.services.payments.snapshot import Reversal, tokens_reversed

REQUESTED = "requested"
LOST = "lost"


def record(order: Order, reversals: Iterable[Reversal]) -> None:
    """Update the rows of an order's reversals from the provider's report."""
    rows = of_order(order.id)
    by_provider_id = {row.provider_id: row for row in rows if row.provider_id is not None}
    by_id = {row.id: row for row in rows}
    for reversal in reversals:
        row = by_provider_id.get(reversal.provider_id) or by_id.get(reversal.own_id or 0)
        if row is None:
            row = PaymentReversal(
                order_id=order.id,
                kind=reversal.kind,
                provider=order.provider,
                actor=order.provider,
            )
            db.session.add(row)
        row.provider_id = reversal.provider_id
        row.amount_minor = reversal.amount_minor or order.amount_minor
        row.state = reversal.state
        row.active = reversal.active
        row.last_error = None
        row.updated_at = func.now()
    db.session.flush()


def settle(order: Order, *, actor: str) -> None:
    """Take or give back an order's tokens until they agree with its reversals; idempotent.

    The caller must have locked the order.
    """
    rows = [row for row in of_order(order.id) if row.active and row.counts]
    refunds = [row for row in rows if row.kind == "refund"]
    # A refund of ours that the provider has not accepted yet already takes the tokens, so that they
    # cannot be spent; the customer is notified when it is certain.
    certain = sum(row.amount_minor for row in refunds if row.state != REQUESTED)
    before = OrderView.of(order)
    order.refunded_minor = certain
    order.reversed_minor = min(order.amount_minor, sum(row.amount_minor for row in rows))
    if order.credited_at is not None:
        if order.user_id is not None:
            _move_tokens(order, order.user_id, actor)
        state = _state(order, rows, sum(row.amount_minor for row in refunds))
        if state != order.state:
            orders.move(order, state)
    db.session.flush()
    notifications.notify_owner(order, before)


def of_order(order_id: int) -> list[PaymentReversal]:
    """Return all reversals of an order, oldest first."""
    query = select(PaymentReversal).where(PaymentReversal.order_id == order_id)
    return list(db.session.scalars(query.order_by(PaymentReversal.id)))


def _move_tokens(order: Order, user_id: int, actor: str) -> None:
    """Take or give back tokens, and store how many are owed."""
    wanted = tokens_reversed(order.tokens, order.amount_minor, order.reversed_minor)
    difference = wanted - order.tokens_taken
    if difference > 0:
        left = lots.remaining(user_id, order.number, lock=True)
        difference = min(difference, left.free_tokens)
    if difference:
        order.reversal_count += 1
        change = ledger.adjust(
            user_id,
            -difference,
            kind="purchase_reversed" if difference > 0 else "purchase_restored",
            reference=f"{order.number}/{order.reversal_count}",
            actor=actor,
        )
        if change.applied_delta != -difference:
            raise RuntimeError(
                f"order {order.number}: the ledger moved a different number of tokens"
            )
        order.tokens_taken += difference
    order.tokens_owed = wanted - order.tokens_taken
    db.session.flush()


def _state(order: Order, rows: list[PaymentReversal], refunded: int) -> str:
    disputes = [row for row in rows if row.kind == "dispute"]
    if any(row.kind == "invalidation" for row in rows):
        return "invalid"
    if any(row.state != LOST for row in disputes):
        return "disputed"
    if disputes:
        return "charged_back"
    if refunded >= order.amount_minor:
        return "refunded"
    return "partly_refunded" if refunded else "paid"
