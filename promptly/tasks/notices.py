"""Task that mails alerts of low balances and ending trials."""

from collections.abc import Callable

from celery import shared_task

from promptly.services.mail import alerts
from promptly.settings import current_settings
from promptly.tasks import alone

BATCH = 500


@shared_task(name="promptly.tasks.notices.send")
def send() -> None:
    """Put due alerts into the outbox, batch after batch."""
    settings = current_settings()
    # Trials first: an account alerted of its trial's end needs no low-balance alert afterwards.
    _all("notices.trials", lambda: alerts.warn_of_trial_ends(BATCH))
    _all("notices.balances", lambda: alerts.warn_of_low_balances(settings, BATCH))


def _all(name: str, batch: Callable[[], int]) -> None:
    while True:
        with alone(name) as chosen:
            count = batch() if chosen else 0
        if count < BATCH:
            break
