"""Webhook events are handled, orders looked after, providers' lists compared with ours.

No transaction is open while a provider is asked; rows are leased instead.
"""

import logging

from celery import shared_task
from flask import current_app

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
from promptly.settings import Settings
from promptly.tasks import alone
from promptly.transactions import transaction

logger = logging.getLogger(__name__)

# A sweep stops after so many; the next one, seconds later, goes on.
EVENTS_A_SWEEP = 50


@shared_task(name="promptly.tasks.payments.handle_event")
def handle_event(row_id: int) -> None:
    """Handle one webhook event if it is due and nobody else is at it."""
    webhook_handler.handle(_settings(), row_id)


@shared_task(name="promptly.tasks.payments.sweep")
def sweep() -> None:
    """Handle the events that are due: retries, what a dead worker left, what the broker lost."""
    for _ in range(EVENTS_A_SWEEP):
        if not webhook_handler.handle(_settings()):
            break


@shared_task(name="promptly.tasks.payments.check_order")
def check_order(order_id: int) -> None:
    """Ask a provider about one order: its customer has just come back."""
    settings = _settings()
    with transaction():
        provider_name = orders.lock(order_id).provider
    if provider_name not in registry.offered(settings) or circuit_breaker.pause_left(provider_name):
        return
    try:
        with (
            circuit_breaker.noticed(provider_name),
            registry.connect(provider_name, settings) as provider,
        ):
            sync.sync(order_id, provider)
    except ProviderProblem as problem:
        # The webhook or the next reconciliation will do.
        logger.info("order not checked", extra={"order_id": order_id, "reason": problem.reason})


@shared_task(name="promptly.tasks.payments.reconcile")
def reconcile(actor: str = "system") -> None:
    """Compare our orders with the providers' lists, and mend what differs."""
    settings = _settings()
    if registry.offered(settings):
        reconciliation.run(settings, actor=actor)


@shared_task(name="promptly.tasks.payments.purge")
def purge() -> None:
    """Forget webhook events and reports past their retention, batch after batch."""
    days = _settings().webhook_retention_days
    while True:
        with alone("payments.purge") as chosen:
            gone = webhook_inbox.purge(days) if chosen else 0
            if chosen:
                reconciliation.purge(days)
        if not gone:
            break


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings
