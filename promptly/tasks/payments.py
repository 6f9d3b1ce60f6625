"""Tasks that handle webhook events, check orders, and reconcile with the providers.

No transaction is open during a call to a provider; rows are leased instead.
"""

import logging

from celery import shared_task

from promptly.clients.provider_errors import ProviderProblem
from promptly.services.payments import (
    circuit_breaker,
    orders,
    reconciliation,
    sync,
    webhook_handler,
    webhook_inbox,
)
from promptly.services.payments.providers import registry
from promptly.settings import current_settings
from promptly.tasks import alone
from promptly.transactions import transaction

logger = logging.getLogger(__name__)

# Limit per sweep; the next one, seconds later, continues.
EVENTS_A_SWEEP = 50


@shared_task(name="promptly.tasks.payments.handle_event")
def handle_event(row_id: int) -> None:
    """Handle one webhook event if it is due and no other worker is handling it."""
    webhook_handler.handle(current_settings(), row_id)


@shared_task(name="promptly.tasks.payments.sweep")
def sweep() -> None:
    """Handle due events: retries, those of dead workers, and those whose task the broker lost."""
    for _ in range(EVENTS_A_SWEEP):
        if not webhook_handler.handle(current_settings()):
            break


@shared_task(name="promptly.tasks.payments.check_order")
def check_order(order_id: int) -> None:
    """Ask the provider about one order whose customer has just come back."""
    settings = current_settings()
    with transaction():
        provider_name = orders.lock(order_id).provider
    if provider_name not in registry.offered(settings) or circuit_breaker.pause_left(provider_name):
        return
    try:
        with (
            circuit_breaker.watch(provider_name),
            registry.connect(provider_name, settings) as provider,
        ):
            sync.sync(order_id, provider)
    except ProviderProblem as problem:
        # The webhook or the next reconciliation will sync it.
        logger.info("order not checked", extra={"order_id": order_id, "reason": problem.reason})


@shared_task(name="promptly.tasks.payments.reconcile")
def reconcile(actor: str = "system") -> None:
    """Compare our orders with the providers' lists, and fix differences."""
    settings = current_settings()
    if registry.offered(settings):
        reconciliation.run(settings, actor=actor)


@shared_task(name="promptly.tasks.payments.purge")
def purge() -> None:
    """Delete webhook events and reports past their retention, batch after batch."""
    days = current_settings().webhook_retention_days
    while True:
        with alone("payments.purge") as chosen:
            gone = webhook_inbox.purge(days) if chosen else 0
            if chosen:
                reconciliation.purge(days)
        if not gone:
            break
