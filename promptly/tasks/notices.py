"""Accounts are warned: of a low balance, of a trial that ends."""

from collections.abc import Callable

from celery import shared_task
from flask import current_app

from promptly.services.mail import alerts
from promptly.settings import Settings
from promptly.tasks import alone

BATCH = 500


@shared_task(name="promptly.tasks.notices.send")
def send() -> None:
    """Put the warnings that are due into the outbox, batch after batch."""
    settings: Settings = current_app.extensions["settings"]
    # The trial first: who hears that it ends need not hear that nothing is left afterwards.
    _all("notices.trials", lambda: alerts.warn_of_trial_ends(BATCH))
    _all("notices.balances", lambda: alerts.warn_of_low_balances(settings, BATCH))


def _all(name: str, batch: Callable[[], int]) -> None:
    while True:
        with alone(name) as chosen:
            count = batch() if chosen else 0
        if count < BATCH:
            break
