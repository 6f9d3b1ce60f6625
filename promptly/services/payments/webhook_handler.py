"""Handle one webhook event: find its checkout and order, then sync that order.

Opens transactions of its own; call it outside of any.
"""

import logging

from promptly.clients.provider_errors import ProviderNotFound, ProviderProblem
from promptly.services.payments import (
    cases,
    circuit_breaker,
    inherited_pages,
    installation,
    orders,
    reversals,
    sync,
    webhook_inbox,
)
from promptly.services.payments.providers import registry
from promptly.services.payments.providers.base import Provider, Subject
from promptly.services.payments.webhook_events import ReceivedEvent
from promptly.services.payments.webhook_inbox import EventLease
from promptly.settings import Settings
from promptly.transactions import transaction

logger = logging.getLogger(__name__)


class _Unused(Exception):
    """An event that need not or cannot be handled; `state` is ignored or parked."""

    def __init__(self, state: str, reason: str) -> None:
        self.state = state
        self.reason = reason
        super().__init__(reason)


def handle(settings: Settings, row_id: int | None = None) -> bool:
    """Handle one due event, or the given one if it is due; return False if there is none."""
    with transaction():
        lease = webhook_inbox.claim(row_id)
    if lease is None:
        return False
    if lease.event.provider not in registry.offered(settings):
        with transaction():
            webhook_inbox.finish(lease, "parked", "the provider is no longer configured")
        return True
    name = lease.event.provider
    pause = circuit_breaker.pause_left(name)
    if pause:
        with transaction():
            webhook_inbox.postpone(lease, pause)
        return True
    try:
        with circuit_breaker.watch(name), registry.connect(name, settings) as provider:
            _handle(lease, provider)
    except _Unused as unused:
        with transaction():
            webhook_inbox.finish(lease, unused.state, unused.reason)
    except ProviderProblem as problem:
        with transaction():
            webhook_inbox.retry(lease, problem.reason)
        logger.warning("webhook event waits", extra=_fields(lease) | {"reason": problem.reason})
    except Exception as problem:
        # A later attempt may succeed; `retry` delays it and finally parks the event.
        with transaction():
            webhook_inbox.retry(lease, f"unexpected: {type(problem).__name__}")
        raise
    return True


def _handle(lease: EventLease, provider: Provider) -> None:
    subject = _subject_of(lease.event, provider)
    checkout_id = _checkout_of(lease.event, subject, provider)
    order_id = _order_of(checkout_id, provider)
    with transaction():
        webhook_inbox.assign(lease, order_id)
    try:
        synced = sync.sync(order_id, provider, checkout_id, subject.refund_ids)
    except ProviderNotFound as problem:
        raise _Unused("parked", f"the provider has no such page: {checkout_id}") from problem
    with transaction():
        if synced is None:
            _wait_for_order(lease, order_id)
            return
        if subject.fraud_warning is not None:
            _warn(order_id, subject.fraud_warning)
        webhook_inbox.finish(lease, "handled")


def _warn(order_id: int, about: str) -> None:
    """Raise a case of a fraud warning while there is money that could be given back."""
    order = orders.lock(order_id)
    if reversals.funds_of(order).left_minor:
        cases.raise_fraud_warning(order, about=about)


def _wait_for_order(lease: EventLease, order_id: int) -> None:
    """Let an event wait while its order is leased, or queue it at once if the lease is free by now.

    `wake` skips events being handled, so check again under the order's lock, where no lease can
    end concurrently.
    """
    if orders.lock(order_id).leased_by is None:
        webhook_inbox.try_again(lease)
    else:
        webhook_inbox.postpone(lease, webhook_inbox.FIRST_DELAY_SECONDS)


def _subject_of(event: ReceivedEvent, provider: Provider) -> Subject:
    try:
        return provider.subject_of(event)
    except ProviderNotFound as problem:
        raise _Unused("parked", f"the provider has no such object: {event.object_id}") from problem


def _checkout_of(event: ReceivedEvent, subject: Subject, provider: Provider) -> str:
    if subject.checkout_id is not None:
        return subject.checkout_id
    if subject.payment_id is None:
        raise _Unused("ignored", "it is not about the payment of a checkout")
    with transaction():
        known = orders.checkout_of_payment(provider.name, subject.payment_id)
    try:
        found = known or provider.checkout_of(subject.payment_id)
    except ProviderNotFound as problem:
        raise _Unused("parked", f"the provider has no such object: {event.object_id}") from problem
    if found is None:
        raise _Unused("ignored", "the payment was not made in a checkout")
    return found


def _order_of(checkout_id: str, provider: Provider) -> int:
    with transaction():
        order_id = orders.id_of(provider.name, checkout_id=checkout_id)
    if order_id is not None:
        return order_id
    try:
        snapshot = provider.fetch(checkout_id)
    except ProviderNotFound as problem:
        raise _Unused("parked", f"the provider has no such page: {checkout_id}") from problem
    with transaction():
        foreign = installation.is_foreign(snapshot)
    if foreign:
        raise _Unused("ignored", "another installation created the page")
    if snapshot.order_number is None:
        with transaction():
            noted = inherited_pages.note(snapshot)
        if noted:
            raise _Unused("parked", "paid on a page of the gateway before the import")
        raise _Unused("ignored", "promptly did not create the page")
    with transaction():
        order_id = orders.id_of(provider.name, number=snapshot.order_number)
        if order_id is None and snapshot.has_money:
            cases.raise_unknown(snapshot)
    if order_id is None:
        raise _Unused("parked", f"there is no order {snapshot.order_number}")
    return order_id


def _fields(lease: EventLease) -> dict[str, object]:
    return {
        "webhook_event": lease.row_id,
        "provider": lease.event.provider,
        "type": lease.event.type,
        "attempts": lease.attempts,
    }
