"""Tasks of trials: end expired ones, record the mailboxes of accounts of earlier versions."""

import logging

from celery import shared_task

from promptly.services.accounts import trial_limits, trials
from promptly.settings import current_settings
from promptly.tasks import alone

logger = logging.getLogger(__name__)

BATCH = 500


@shared_task(name="promptly.tasks.trials.expire")
def expire() -> None:
    """Take back the remaining tokens of expired trials, batch after batch."""
    total = 0
    while True:
        with alone("trials.expire") as chosen:
            count = trials.expire(BATCH) if chosen else 0
        total += count
        if count < BATCH:
            break
    if total:
        logger.info("trials expired", extra={"accounts": total})


@shared_task(name="promptly.tasks.trials.record_mailboxes")
def record_mailboxes() -> None:
    """Record mailboxes that earlier versions left to record, and forget counts of past days."""
    settings, last, total = current_settings(), 0, 0
    while True:
        with alone("trials.record_mailboxes") as chosen:
            found, added = (
                trials.remember_accounts(settings, after=last, batch=BATCH) if chosen else (None, 0)
            )
            if found is None:
                trial_limits.forget()
        total += added
        if found is None:
            break
        last = found
    if total:
        logger.info("mailboxes recorded", extra={"mailboxes": total})
