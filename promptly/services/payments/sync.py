"""Sync one order with its provider: fetch under the order's lease, apply while it still holds.

These functions open short transactions of their own, because none may be open during a call to a
provider; call them outside of any.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from promptly.clients.provider_errors import ProviderProblem
from promptly.clock import utcnow
from promptly.models import Order
from promptly.services.payments import apply, orders, webhook_inbox
from promptly.services.payments.providers.base import OrderFacts, Provider
from promptly.services.payments.snapshot import ProviderSnapshot
from promptly.transactions import transaction

logger = logging.getLogger(__name__)

NEVER_CREATED = "the provider has no page for this order"


@dataclass(frozen=True)
class Synced:
    """The state of an order before and after a sync."""

    number: str
    before: str
    after: str


def sync(
    order_id: int,
    provider: Provider,
    checkout_id: str | None = None,
    refund_ids: Sequence[str] = (),
) -> Synced | None:
    """Apply its provider's current snapshot to an order; return None if it is leased already.

    `checkout_id` names the page if the order may not know it yet, `refund_ids` refunds that it may
    not know. Raises ProviderProblem.
    """
    with transaction():
        lease = orders.lease(order_id)
        if lease is None:
            return None
        facts = OrderFacts.of(lease.order)
    try:
        snapshot = _fetch(provider, facts, checkout_id, refund_ids)
    except ProviderProblem as problem:
        with transaction():
            held = orders.locked_by(order_id, lease.holder)
            if held is not None:
                orders.release(held, problem.reason)
        raise
    with transaction():
        held = orders.locked_by(order_id, lease.holder)
        if held is None:
            return None
        before = held.state
        orders.release(held, _apply(held, snapshot))
        webhook_inbox.wake(order_id)
        synced = Synced(held.number, before, held.state)
    if synced.before != synced.after:
        logger.info("order changed", extra=vars(synced))
    return synced


def _fetch(
    provider: Provider, order: OrderFacts, checkout_id: str | None, refund_ids: Sequence[str]
) -> ProviderSnapshot | None:
    known = checkout_id or order.checkout_id
    if known is None:
        return provider.find(order)
    return provider.fetch(known, tuple({*order.refund_ids, *refund_ids}))


def _apply(order: Order, snapshot: ProviderSnapshot | None) -> str | None:
    """Apply the snapshot; return the error to store with the order, if there is one."""
    if snapshot is not None:
        apply.apply(order, snapshot)
    elif order.state == "created" and order.requested_at < utcnow() - orders.CALL_GRACE:
        orders.move(order, "failed")
        return NEVER_CREATED
    return None
