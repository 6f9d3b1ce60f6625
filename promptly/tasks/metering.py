"""Tasks that settle the holds of dead processes and purge ended holds."""

from celery import shared_task

from promptly.extensions import db
from promptly.services.metering import recovery
from promptly.transactions import transaction


@shared_task(name="promptly.tasks.metering.recover_holds")
def recover_holds() -> None:
    """Settle dead holds at their last checkpoint, each in a transaction of its own."""
    with transaction() as session:
        if not recovery.begin_sweep(session):
            return
    with transaction() as session:
        stale = recovery.stale_holds(session)
    for request_id in stale:
        with transaction() as session:
            recovery.recover(session, request_id)
    db.session.remove()


@shared_task(name="promptly.tasks.metering.purge_holds")
def purge_holds() -> None:
    """Delete ended holds that no late settlement can need any more."""
    for _ in range(100):
        with transaction() as session:
            if not recovery.purge_holds(session):
                return
