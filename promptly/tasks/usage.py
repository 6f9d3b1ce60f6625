"""Tasks for daily totals and for the partitions of usage events."""

import logging

from celery import shared_task

from promptly.services.accounts import key_activity
from promptly.services.usage import breakdowns, partitions, rollups, statistics
from promptly.settings import current_settings
from promptly.tasks import alone

logger = logging.getLogger(__name__)


@shared_task(name="promptly.tasks.usage.roll_up")
def roll_up() -> None:
    """Rebuild the totals of the last days, per account and over all accounts."""
    with alone("usage.roll_up") as chosen:
        if chosen:
            statistics.refresh(rollups.roll_up())
    with alone("usage.break_down") as chosen:
        if chosen:
            breakdowns.roll_up()
    # A separate transaction: it locks keys, and a revocation must not wait for all of the above.
    with alone("usage.keys") as chosen:
        if chosen:
            key_activity.note()


@shared_task(name="promptly.tasks.usage.maintain_partitions")
def maintain_partitions() -> None:
    """Create the coming months' partitions, and drop those past the retention."""
    retention_days = current_settings().usage_retention_days
    with alone("usage.partitions") as chosen:
        made = partitions.make_ahead() if chosen else []
    with alone("usage.partitions") as chosen:
        dropped = partitions.drop_old(retention_days) if chosen else []
    if made or dropped:
        logger.info("partitions maintained", extra={"made": made, "dropped": dropped})
