"""Task that finishes interrupted deletions of accounts."""

import logging

from celery import shared_task

from promptly.services import account_deletion

logger = logging.getLogger(__name__)


@shared_task(name="promptly.tasks.accounts.finish_deletions")
def finish_deletions() -> None:
    """Remove closed accounts without running requests, each in a transaction of its own."""
    removed = account_deletion.finish()
    if removed:
        logger.info("deletions finished", extra={"accounts": removed})
