"""Refunds that an operator requests: store the refund, take the tokens, then ask the provider.

The tokens go first, so that they cannot be spent during the call. A refusal gives them back.
Without an answer the refund stays `requested`, and reconciliation repeats the same request.

No refund, of a case or an order, exceeds what was received less what was given back (`funds`).
"""

import logging
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from promptly.clients.provider_errors import ProviderPending, ProviderProblem, ProviderRefused
from promptly.errors import InvalidRequest, PaymentUnavailable
from promptly.extensions import db
from promptly.models import Order, PaymentCase, PaymentReversal
from promptly.models.states import CaseKind
from promptly.services.payments import (
    cases,
    lots,
    orders,
    reversals,
    sync,
    unreported_refunds,
    webhook_inbox,
)
from promptly.services.payments.funds import REQUESTED, Funds
from promptly.services.payments.providers import registry
from promptly.services.payments.providers.base import OrderFacts, RefundFacts, RefundMade
from promptly.settings import Settings
from promptly.transactions import transaction

logger = logging.getLogger(__name__)

BY_HAND = "by_hand"
BATCH = 100


@dataclass(frozen=True)
class Quote:
    """Refundable amounts of an order in minor units: the maximum, and that of unspent tokens.

    Of an order that was not credited, both are what was received and not given back.
    """

    most_minor: int
    unspent_minor: int
    returned_minor: int


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
    """Return what can be refunded of an order now; with `lock`, exact until the commit.

    Of an order whose received amount was never read, it is an estimate by the price.
    """
    funds = reversals.funds_of(order)
    most = funds.left_minor
    if order.credited_at is None:
        if funds.received_minor is None:
            most = 0
        return Quote(most, most, funds.returned_minor)
    if order.user_id is None:
        return Quote(most, 0, funds.returned_minor)
    left = lots.remaining(order.user_id, order.number, lock=lock)
    unspent = funds.price_of(left.free_tokens, order.tokens)
    return Quote(most, min(most, unspent), funds.returned_minor)


def tokens_reversed_by(order: Order, amount_minor: int) -> int:
    """Return how many more tokens a refund of this amount would take, or record as owed."""
    if order.credited_at is None or order.user_id is None:
        return 0
    rows = reversals.of_order(order.id)
    refund = PaymentReversal(kind="refund", amount_minor=amount_minor, counts=True, active=True)
    wanted = Funds.of(order, [*rows, refund]).share_reversed(order.tokens)
    return max(wanted - order.tokens_taken - order.tokens_owed, 0)


def read_received(number: str, settings: Settings) -> None:
    """Ask an order's provider what was received and given back, before a refund of it.

    Opens transactions of its own. Raises NotFound, and PaymentUnavailable if the provider does not
    answer and was never asked before. Without a provider that knows the payment nothing changes.
    """
    with transaction():
        order = orders.find(number)
        order_id, name, known = order.id, order.provider, order.received_minor is not None
    if name not in registry.offered(settings):
        return
    try:
        with registry.connect(name, settings, registry.OPERATOR_WAITS_SECONDS) as provider:
            found = unreported_refunds.find(provider)
            sync.sync(order_id, provider, refund_ids=found.get(order_id, ()))
    except ProviderRefused:
        # The reason is stored with the order.
        return
    except ProviderProblem as problem:
        if not known:
            raise PaymentUnavailable(
                "The provider does not answer, so how much was received is not known. "
                "Nothing was refunded: try again later."
            ) from problem


def request_refund(
    number: str, *, amount_minor: int | None, actor: str, by_hand: bool = False
) -> PaymentReversal:
    """Store a refund of an order and take its tokens; `execute_refund` does the rest.

    Without an amount it refunds the unspent tokens, or all that was received for an order that was
    not credited. `by_hand`: the operator has already refunded it where we cannot see it. A refund
    of all that is left also decides an open case about this money. Call `read_received` before.
    Raises NotFound, and InvalidRequest (param `amount`).
    """
    order = orders.lock(orders.find(number).id)
    if any(row.state == REQUESTED for row in reversals.of_order(order.id)):
        raise InvalidRequest("A refund of this order is on its way already.")
    if not by_hand:
        _require_received(order)
    quoted = quote(order, lock=True)
    if not quoted.most_minor:
        raise InvalidRequest(
            "Nothing can be refunded: nothing was received for this order, or all of it was given "
            "back.",
            param="amount",
        )
    amount = quoted.unspent_minor if amount_minor is None else amount_minor
    if amount == 0:
        raise InvalidRequest("Nothing of this order is unspent: name an amount.", param="amount")
    if not 0 < amount <= quoted.most_minor:
        raise InvalidRequest(
            f"Between 1 and {quoted.most_minor} minor units can be refunded.", param="amount"
        )
    case = cases.refundable(order) if amount == quoted.most_minor else None
    if case is not None:
        cases.decide(case.id, cases.REFUND, actor=actor, note="by a refund of all of it")
    state = BY_HAND if by_hand else REQUESTED
    row = _add(order, amount, actor, state=state, case=case)
    reversals.settle(order, actor=actor)
    return row


def audited(order: Order, row: PaymentReversal) -> dict[str, Any]:
    """Return what the audit log stores of an order after a refund was requested."""
    return {
        "state": order.state,
        "amount_minor": row.amount_minor,
        "currency": order.paid_in,
        "by_hand": row.state == BY_HAND,
        "tokens_taken": order.tokens_taken,
        "tokens_owed": order.tokens_owed,
    }


def request_for_case(order: Order, case: PaymentCase, actor: str) -> int:
    """Store the refund that has decided a case, of all that is left or the surplus; return its id.

    The order is locked. Raises InvalidRequest if nothing can be refunded.
    """
    _require_received(order)
    surplus = case.kind == CaseKind.PAID_OVER and case.resolution == cases.REFUND
    funds = reversals.funds_of(order)
    amount = funds.surplus_left_minor if surplus else funds.left_minor
    if not amount:
        raise InvalidRequest(
            "Nothing can be refunded: no confirmed payment of this order is left that was not "
            "given back already."
        )
    row = _add(order, amount, actor, state=REQUESTED, counts=not surplus, case=case)
    reversals.settle(order, actor=actor)
    return row.id


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
        facts, refund = OrderFacts.of(lease.order), RefundFacts.of(row, _left_for(lease.order, row))
        row.response_pending, row.updated_at = True, func.now()
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
            _record(held, refund, made)
            orders.release(held)
            webhook_inbox.wake(order_id)
        return RefundResult.of(db.session.get_one(PaymentReversal, row_id, populate_existing=True))


def waiting() -> list[tuple[int, str]]:
    """Return a batch of refunds without an answer, each with its provider, oldest first."""
    query = select(PaymentReversal.id, PaymentReversal.provider)
    query = query.where(PaymentReversal.state == REQUESTED)
    rows = db.session.execute(query.order_by(PaymentReversal.id).limit(BATCH))
    return [(row.id, row.provider) for row in rows]


def _record(order: Order, refund: RefundFacts, made: RefundMade | ProviderProblem) -> None:
    row = db.session.get_one(PaymentReversal, refund.id, populate_existing=True)
    if isinstance(made, RefundMade):
        reversals.record(order, [made.reversal])
        row.response_pending = False
    elif row.state == REQUESTED:
        # Otherwise a webhook has reported in the meantime that it was made after all.
        row.last_error = made.reason
        if isinstance(made, ProviderRefused):
            row.state, row.active, row.response_pending = "failed", False, False
        row.updated_at = refund.requested_at if isinstance(made, ProviderPending) else func.now()
    db.session.flush()
    reversals.settle(order, actor=row.actor)


def _left_for(order: Order, row: PaymentReversal) -> int:
    """Return the most that a requested refund may give back, besides the order's others."""
    others = [other for other in reversals.of_order(order.id) if other.id != row.id]
    return Funds.of(order, others).left_minor


def _require_received(order: Order) -> None:
    if order.received_minor is None:
        raise InvalidRequest(
            "How much was received for this order has not been read from its provider yet. If the "
            "provider is not configured any more, record a refund made elsewhere instead."
        )


def _add(
    order: Order,
    amount_minor: int,
    actor: str,
    *,
    state: str,
    counts: bool = True,
    case: PaymentCase | None = None,
) -> PaymentReversal:
    """Store a refund. The constraint of the order refuses one that exceeds what was received."""
    returned = reversals.funds_of(order).returned_minor
    row = PaymentReversal(
        order_id=order.id,
        case_id=None if case is None else case.id,
        kind="refund",
        provider=order.provider,
        amount_minor=amount_minor,
        counts=counts,
        state=state,
        active=True,
        actor=actor,
    )
    db.session.add(row)
    order.returned_minor = returned + amount_minor
    db.session.flush()
    return row
