"""Tasks that finish interrupted deletions of accounts, and purge old sessions."""

import logging

from celery import shared_task

from promptly.services import account_deletion, panel_sessions
from promptly.services.accounts import sessions
from promptly.services.mail import security_alerts
from promptly.tasks import alone

logger = logging.getLogger(__name__)


@shared_task(name="promptly.tasks.accounts.finish_deletions")
def finish_deletions() -> None:
    """Remove closed accounts without running requests, each in a transaction of its own."""
    removed = account_deletion.finish()
    if removed:
        logger.info("deletions finished", extra={"accounts": removed})


@shared_task(name="promptly.tasks.accounts.purge_sessions")
def purge_sessions() -> None:
    """Delete sessions past their retention, of dashboard and panel, and emails about them."""
    with alone("accounts.sessions") as chosen:
        purged = sessions.purge() if chosen else 0
        if chosen:
            panel_sessions.purge()
            security_alerts.purge()
    if purged:
        logger.info("sessions purged", extra={"sessions": purged})
