"""Task that ends expired trials."""

import logging

from celery import shared_task

from promptly.services.accounts import trials
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
