"""Refunds, disputes and invalidations, and the tokens taken and given back with them.

The reversed part of what was paid (refunds and open or lost disputes together, all of it at most)
determines how many of the order's tokens are reversed: in proportion, rounded down, all of them for
all of it. Those that are unspent in the order's lot and not held by a running request are taken;
the rest is owed: noted for the operator and never taken from another lot. When less is reversed
again, because a dispute was won or a refund failed, the debt is cancelled first, then taken tokens
are given back. So the result does not depend on the order of the reports.

A refund that decided a case and did not succeed reopens it.
"""

from collections.abc import Collection, Iterable

from sqlalchemy import select
from sqlalchemy.sql import func

from promptly.extensions import db
from promptly.models import Order, PaymentReversal
from promptly.services.ledger import ledger
from promptly.services.payments import cases, funds, lots, notifications, orders
from promptly.services.payments.funds import REQUESTED, Funds
from promptly.services.payments.notifications import OrderView
from promptly.services.payments.snapshot import Reversal

LOST = "lost"
# A Bitcoin refund that the customer has not claimed yet, or that is not paid out yet.
OFFERED = ("offered", "claimed")


def record(order: Order, reversals: Iterable[Reversal]) -> None:
    """Update the rows of an order's reversals from the provider's report."""
    rows = of_order(order.id)
    by_provider_id = {row.provider_id: row for row in rows if row.provider_id is not None}
    # A row that has its refund is not another one's: BTCPay may have made one refund twice.
    unanswered = {row.id: row for row in rows if row.provider_id is None}
    for reversal in reversals:
        if reversal.amount_minor == 0:
            # BTCPay's own pages also refund an invoice that nobody has paid.
            continue
        row = by_provider_id.get(reversal.provider_id) or unanswered.pop(reversal.own_id or 0, None)
        if row is None:
            row = PaymentReversal(
                order_id=order.id,
                kind=reversal.kind,
                provider=order.provider,
                counts=not _is_surplus(order, rows, reversal),
                actor=order.provider,
            )
            db.session.add(row)
            rows.append(row)
        row.provider_id = reversal.provider_id
        row.amount_minor = reversal.amount_minor or Funds.of(order, ()).came_minor or 1
        row.state = reversal.state
        row.active = reversal.active
        row.link = reversal.link or row.link
        row.last_error = None
        row.updated_at = func.now()
    db.session.flush()


def _is_surplus(order: Order, rows: list[PaymentReversal], new: Reversal) -> bool:
    """Whether a refund made elsewhere gives back just what came beyond the price."""
    surplus = Funds.of(order, rows).surplus_left_minor
    return new.kind == "refund" and surplus > 0 and new.amount_minor == surplus


def settle(order: Order, *, actor: str) -> None:
    """Take or give back an order's tokens until they agree with its reversals; idempotent.

    The caller must have locked the order.
    """
    rows = of_order(order.id)
    before = OrderView.of(order)
    # A refund of ours that the provider has not accepted yet already takes the tokens, so that they
    # cannot be spent; the customer is notified when it is certain.
    refunds = [row for row in rows if _is_refund(row) and row.state != REQUESTED]
    certain = [row for row in refunds if row.counts]
    order.refunded_minor = funds.total(certain)
    order.surplus_refunded_minor = funds.total(row for row in refunds if not row.counts)
    money = funds.store(order, rows)
    if order.credited_at is not None:
        if order.user_id is not None:
            _move_tokens(order, order.user_id, money, actor)
        state = _state(rows, money)
        if state != order.state:
            orders.move(order, state)
    elif certain and (money.received_minor is None or _all_refunded(order, certain)):
        orders.move(order, "refunded")
    db.session.flush()
    _follow_cases(order, rows)
    notifications.notify_owner(order, before)


def of_order(order_id: int) -> list[PaymentReversal]:
    """Return all reversals of an order, oldest first."""
    query = select(PaymentReversal).where(PaymentReversal.order_id == order_id)
    return list(db.session.scalars(query.order_by(PaymentReversal.id)))


def funds_of(order: Order) -> Funds:
    """Return what came for an order and what went back."""
    return Funds.of(order, of_order(order.id))


def offered(provider: str, limit: int) -> list[int]:
    """Return a provider's orders with refunds to follow, least recently checked first."""
    query = (
        select(Order.id)
        .where(
            Order.provider == provider,
            Order.id.in_(
                select(PaymentReversal.order_id).where(
                    PaymentReversal.state.in_(OFFERED), PaymentReversal.active
                )
            ),
        )
        .order_by(Order.checked_at, Order.id)
        .limit(limit)
    )
    return list(db.session.scalars(query))


def known_ids(provider: str, refund_ids: Collection[str]) -> set[str]:
    """Return which of a provider's refunds are on record."""
    query = select(PaymentReversal.provider_id).where(
        PaymentReversal.provider == provider, PaymentReversal.provider_id.in_(refund_ids)
    )
    return {found for found in db.session.scalars(query) if found is not None}


def followed(order: Order) -> tuple[str, ...]:
    """Return the provider's ids of an order's Bitcoin refunds that are still on their way."""
    return tuple(
        row.provider_id
        for row in of_order(order.id)
        if row.active and row.state in OFFERED and row.provider_id is not None
    )


def _is_refund(row: PaymentReversal) -> bool:
    return row.active and row.kind == "refund"


def _all_refunded(order: Order, rows: list[PaymentReversal]) -> bool:
    """Whether refunds that are certain gave back all that was received."""
    refunds = [row for row in rows if _is_refund(row) and row.state != REQUESTED]
    return bool(order.received_minor) and not Funds.of(order, refunds).left_minor


def reopen_cases(order: Order) -> bool:
    """Reopen the cases whose refunds did not succeed; return whether there were any."""
    rows = of_order(order.id)
    alive = {row.case_id for row in rows if row.active}
    reopened = False
    for row in reversed(rows):
        if row.case_id is not None and row.case_id not in alive:
            why = row.last_error or f"the refund is {row.state}"
            reopened |= cases.reopen_refused(row.case_id, why)
    if reopened and order.credited_at is None:
        orders.move(order, "attention")
    return reopened


def _follow_cases(order: Order, rows: list[PaymentReversal]) -> None:
    """Reopen cases whose refunds did not succeed; close those whose money is gone."""
    if reopen_cases(order):
        return
    if _all_refunded(order, rows):
        cases.supersede_refunded(order)
    if order.received_minor is not None and not Funds.of(order, rows).surplus_left_minor:
        cases.supersede_surplus(order)


def _move_tokens(order: Order, user_id: int, money: Funds, actor: str) -> None:
    """Take or give back tokens, and store how many are owed."""
    wanted = money.share_reversed(order.tokens)
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


def _state(rows: list[PaymentReversal], money: Funds) -> str:
    disputes = [row for row in rows if row.active and row.kind == "dispute"]
    if money.invalidated:
        return "invalid"
    if any(row.state != LOST for row in disputes):
        return "disputed"
    if disputes:
        return "charged_back"
    if not money.reversed_minor and not money.is_reversed:
        return "paid"
    return "refunded" if money.is_reversed else "partly_refunded"
