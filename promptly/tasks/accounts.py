"""Deletions of accounts that were cut off are finished."""

import logging

from celery import shared_task

from promptly.services import account_deletion

logger = logging.getLogger(__name__)


@shared_task(name="promptly.tasks.accounts.finish_deletions")
def finish_deletions() -> None:
    """Remove what was closed and runs nothing any more, each account in its own transaction."""
    removed = account_deletion.finish()
    if removed:
        logger.info("deletions finished", extra={"accounts": removed})
