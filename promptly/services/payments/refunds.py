"""Refunds that an operator requests: store the refund, take the tokens, then ask the provider.

The tokens go first, so that they cannot be spent during the call. A refusal gives them back.
Without an answer the refund stays `requested`, and reconciliation repeats the same request.
"""

import logging
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from promptly.clients.provider_errors import ProviderProblem, ProviderRefused
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import Order, PaymentReversal
from promptly.services.payments import lots, orders, reversals, webhook_inbox
from promptly.services.payments.providers import registry
from promptly.services.payments.providers.base import OrderFacts, RefundFacts, RefundMade
from promptly.services.payments.reversals import REQUESTED
from promptly.services.payments.snapshot import amount_of
from promptly.settings import Settings
from promptly.transactions import transaction

logger = logging.getLogger(__name__)

BY_HAND = "by_hand"
BATCH = 100


@dataclass(frozen=True)
class Quote:
    """Refundable amounts of an order in minor units: the maximum, and that of unspent tokens."""

    most_minor: int
    unspent_minor: int


@dataclass(frozen=True)
class RefundResult:
    """State of a refund; `link` is for the customer of a Bitcoin refund."""

    refund_id: int
    state: str
    active: bool
    amount_minor: int
    actor: str
    provider_id: str | None
    link: str | None
    response_pending: bool
    last_error: str | None

    @classmethod
    def of(cls, row: PaymentReversal) -> "RefundResult":
        """Return the current outcome of a row."""
        names = list(cls.__dataclass_fields__)[1:]
        return cls(row.id, **{name: getattr(row, name) for name in names})


def quote(order: Order, *, lock: bool = False) -> Quote:
    """Return what can be refunded of an order now; with `lock`, exact until the commit."""
    if order.credited_at is None:
        return Quote(0, 0)
    most = order.amount_minor - order.reversed_minor
    if order.user_id is None:
        return Quote(most, 0)
    left = lots.remaining(order.user_id, order.number, lock=lock)
    unspent = amount_of(left.free_tokens, order.tokens, order.amount_minor)
    return Quote(most, min(most, unspent))


def request_refund(
    number: str, *, amount_minor: int | None, actor: str, by_hand: bool = False
) -> PaymentReversal:
    """Store a refund of a credited order and take its tokens; `execute_refund` does the rest.

    Without an amount it refunds the unspent tokens. `by_hand`: the operator has already refunded
    it where we cannot see it. Raises NotFound, and InvalidRequest (param `amount`).
    """
    order = orders.lock(orders.find(number).id)
    if order.credited_at is None:
        raise InvalidRequest("This order was not credited: there is nothing to refund.")
    if any(row.state == REQUESTED for row in reversals.of_order(order.id)):
        raise InvalidRequest("A refund of this order is on its way already.")
    quoted = quote(order, lock=True)
    amount = quoted.unspent_minor if amount_minor is None else amount_minor
    if amount == 0:
        raise InvalidRequest("Nothing of this order is unspent: name an amount.", param="amount")
    if not 0 < amount <= quoted.most_minor:
        raise InvalidRequest(
            f"Between 1 and {quoted.most_minor} minor units can be refunded.", param="amount"
        )
    row = _add(order, amount, actor, state=BY_HAND if by_hand else REQUESTED)
    reversals.settle(order, actor=actor)
    return row


def audited(order: Order, row: PaymentReversal) -> dict[str, Any]:
    """Return what the audit log stores of an order after a refund was requested."""
    return {
        "state": order.state,
        "amount_minor": row.amount_minor,
        "currency": order.currency,
        "by_hand": row.state == BY_HAND,
        "tokens_taken": order.tokens_taken,
        "tokens_owed": order.tokens_owed,
    }


def request_uncredited(order: Order, amount_minor: int, actor: str, *, surplus: bool) -> int:
    """Store a refund of money that bought no tokens; return the row's id."""
    return _add(order, amount_minor, actor, state=REQUESTED, counts=not surplus).id


def execute_refund(row_id: int, settings: Settings) -> RefundResult | None:
    """Request a stored refund from its provider; return None if its order is leased already.

    Opens transactions of its own. Raises no ProviderProblem: the outcome says how it went.
    """
    with transaction():
        row = db.session.get_one(PaymentReversal, row_id)
        if row.state != REQUESTED:
            return RefundResult.of(row)
        order_id, provider_name = row.order_id, row.provider
        lease = orders.lease(order_id)
        if lease is None:
            return None
        # Read it anew: the previous holder of the lease may have had the refund made.
        db.session.refresh(row)
        if row.state != REQUESTED:
            orders.release(lease.order)
            return RefundResult.of(row)
        facts, refund = OrderFacts.of(lease.order), RefundFacts.of(row)
        row.response_pending = True
    made: RefundMade | ProviderProblem
    try:
        timeout_seconds = registry.OPERATOR_WAITS_SECONDS
        with registry.connect(provider_name, settings, timeout_seconds) as provider:
            made = provider.refund(facts, refund)
    except ProviderProblem as problem:
        made = problem
        fields = {"order": facts.number, "refund": row_id, "reason": problem.reason}
        logger.warning("refund not made", extra=fields)
    with transaction():
        held = orders.locked_by(order_id, lease.holder)
        if held is not None:
            _record(held, row_id, made)
            orders.release(held)
            webhook_inbox.wake(order_id)
        return RefundResult.of(db.session.get_one(PaymentReversal, row_id, populate_existing=True))


def waiting() -> list[int]:
    """Return a batch of refunds without an answer from their provider, oldest first."""
    query = select(PaymentReversal.id).where(PaymentReversal.state == REQUESTED)
    return list(db.session.scalars(query.order_by(PaymentReversal.id).limit(BATCH)))


def _record(order: Order, row_id: int, made: RefundMade | ProviderProblem) -> None:
    row = db.session.get_one(PaymentReversal, row_id, populate_existing=True)
    if isinstance(made, RefundMade):
        reversals.record(order, [made.reversal])
        row.link, row.response_pending = made.link, False
        if order.credited_at is None and row.counts:
            orders.move(order, "refunded")
    elif row.state == REQUESTED:
        # Otherwise a webhook has reported in the meantime that it was made after all.
        row.last_error = made.reason
        if isinstance(made, ProviderRefused):
            row.state, row.active, row.response_pending = "failed", False, False
        row.updated_at = func.now()
    db.session.flush()
    reversals.settle(order, actor=row.actor)


def _add(
    order: Order, amount_minor: int, actor: str, *, state: str, counts: bool = True
) -> PaymentReversal:
    row = PaymentReversal(
        order_id=order.id,
        kind="refund",
        provider=order.provider,
        amount_minor=amount_minor,
        counts=counts,
        state=state,
        active=True,
        actor=actor,
    )
    db.session.add(row)
    db.session.flush()
    return row
