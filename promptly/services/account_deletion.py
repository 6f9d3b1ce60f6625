"""How an account is deleted: closed, its requests ended and settled, then removed.

    open ──close──► closed: no key is good, web workers end its requests at their next checkpoint
                       └── no hold is open ──► removed

Each step is a transaction of its own. A deletion that was cut off between them is finished by a
task that looks for closed accounts.
"""

import time
import uuid

from sqlalchemy import select

from promptly.extensions import db
from promptly.models import Hold
from promptly.services.accounts import accounts
from promptly.services.mail import outbox
from promptly.services.metering import recovery
from promptly.services.metering.holds import SILENT_SECONDS
from promptly.transactions import transaction

POLL_SECONDS = 0.1


def delete_account(user_id: int, *, wait_seconds: float = 10.0) -> bool:
    """Delete an account and all that names it; opens transactions of its own.

    Its running requests are ended and settled first, those of a dead process at their last
    checkpoint. Returns False if one still runs after `wait_seconds`: the account is closed
    then, and the rest is done by `finish` later. An account that is gone already is fine.
    """
    with transaction():
        accounts.close(user_id)
    deadline = time.monotonic() + wait_seconds
    while not _remove_idle(user_id):
        if time.monotonic() > deadline:
            _settle_silent(user_id)
            return _remove_idle(user_id)
        time.sleep(POLL_SECONDS)
    return True


def confirm(user_id: int, mail_id: int) -> bool:
    """Delete an account because the link of a mail was followed; False if that link is spent."""
    with transaction():
        accounts.lock(user_id)
        if not outbox.link_is_good("confirm_deletion", user_id, mail_id):
            return False
        accounts.close(user_id)
    delete_account(user_id)
    return True


def finish() -> int:
    """Remove the closed accounts that run nothing any more; returns how many.

    Holds of dead processes are settled by the sweep of metering before.
    """
    with transaction():
        closed = accounts.list_closed()
    return sum(_remove_idle(user_id) for user_id in closed)


def _remove_idle(user_id: int) -> bool:
    with transaction():
        # Without locks first: settlements that are under way shall not wait for this look.
        return not _open_holds(user_id) and accounts.remove(user_id, only_idle=True)


def _settle_silent(user_id: int) -> None:
    """Settle what has had no checkpoint for so long that its process must be dead or stopped."""
    with transaction():
        holds = _open_holds(user_id)
    for hold in holds:
        with transaction() as session:
            recovery.recover(session, hold, SILENT_SECONDS)


def _open_holds(user_id: int) -> list[uuid.UUID]:
    query = select(Hold.request_id).where(Hold.user_id == user_id, Hold.state == "open")
    return list(db.session.scalars(query.order_by(Hold.request_id)))
