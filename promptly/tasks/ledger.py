"""Task that verifies the ledger every night."""

import logging

from celery import shared_task

from promptly.clock import utcnow
from promptly.services.ledger import verification
from promptly.tasks import alone

logger = logging.getLogger(__name__)

# It reads all usage events. It is acknowledged when it starts, so that the broker does not deliver
# it again meanwhile; beat asks for it again soon.
LIMIT_SECONDS = 3600


@shared_task(
    name="promptly.tasks.ledger.verify",
    acks_late=False,
    soft_time_limit=LIMIT_SECONDS - 60,
    time_limit=LIMIT_SECONDS,
)
def verify() -> None:
    """Verify all balances and record the result, if this has not been done since 03:00 UTC."""
    with alone("ledger.verify") as chosen:
        if not chosen or not verification.is_due(utcnow()):
            return
        differences = len(verification.verify())
        verification.record(differences)
    logger.log(
        logging.ERROR if differences else logging.INFO,
        "ledger verified",
        extra={"differences": differences},
    )
