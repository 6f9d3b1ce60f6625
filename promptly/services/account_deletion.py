"""How an account is deleted: closed, its requests ended and settled, then removed.

    open ──close──► closed: no key is good, web workers end its requests at their next checkpoint
                       └── no hold is open ──► removed

Each step is a transaction of its own. A deletion that was cut off between them is finished by a
task that looks for closed accounts.
"""

import time
import uuid

from sqlalchemy import delete, func, select, update

from promptly.extensions import db
from promptly.models import Balance, Hold, UsageEvent, UsageRollup, User
from promptly.services.accounts import accounts, keys
from promptly.services.mail import outbox
from promptly.services.metering import recovery
from promptly.services.metering.holds import SILENT_SECONDS
from promptly.services.payments import orders
from promptly.transactions import transaction

POLL_SECONDS = 0.1
# How many closed accounts one run of the task removes.
BATCH = 100


def delete_account(user_id: int, *, wait_seconds: float = 10.0) -> bool:
    """Delete an account and all that names it; opens transactions of its own.

    Its running requests are ended and settled first, those of a dead process at their last
    checkpoint. Returns False if one still runs after `wait_seconds`: the account is closed
    then, and the rest is done by `finish` later. An account that is gone already is fine.
    """
    with transaction():
        close(user_id)
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
        close(user_id)
    delete_account(user_id)
    return True


def finish() -> int:
    """Remove the closed accounts that run nothing any more; returns how many.

    Holds of dead processes are settled by the sweep of metering before.
    """
    with transaction():
        query = select(User.id).where(User.closed_at.is_not(None)).order_by(User.id).limit(BATCH)
        closed = list(db.session.scalars(query))
    return sum(_remove_idle(user_id) for user_id in closed)


def close(user_id: int) -> None:
    """Begin to delete an account: from this commit on nobody gets in, and it is mailed nothing.

    Its address is forgotten here already, so whoever registers it meanwhile gets an account of
    their own.
    """
    accounts.lock(user_id)
    outbox.cancel_unsent(user_id)
    outbox.spend_links(user_id)
    keys.revoke_all(user_id)
    db.session.execute(
        update(User)
        .where(User.id == user_id, User.closed_at.is_(None))
        # No address looks like this, so nothing finds it by one.
        .values(closed_at=func.now(), email=f"deleted-{user_id}")
    )


def remove(user_id: int, *, only_idle: bool = False) -> bool:
    """Remove an account and all that names it; its mailbox stays remembered, by hash.

    With `only_idle` an account with running requests stays, and False is returned. Otherwise they
    find no account when they settle, and charge nothing. Purchases stay, and belong to nobody then.
    """
    accounts.lock(user_id)
    # Now, because deleting the account below changes them after its balance is locked.
    orders.lock_all_of(user_id)
    keys.revoke_all(user_id)
    holds = select(Hold.request_id).where(Hold.user_id == user_id).order_by(Hold.request_id)
    # The order in which settlements lock: hold, then balance.
    db.session.execute(holds.with_for_update())
    balance = select(Balance.user_id).where(Balance.user_id == user_id)
    db.session.execute(balance.with_for_update())
    # Asked when the balance is locked: from then on no hold can be placed.
    if only_idle and db.session.execute(holds.where(Hold.state == "open")).first() is not None:
        return False
    db.session.execute(delete(Balance).where(Balance.user_id == user_id))
    for table in (Hold, UsageEvent, UsageRollup):
        db.session.execute(delete(table).where(table.user_id == user_id))
    db.session.execute(delete(User).where(User.id == user_id))
    return True


def _remove_idle(user_id: int) -> bool:
    with transaction():
        # Without locks first: settlements that are under way shall not wait for this look.
        return not _open_holds(user_id) and remove(user_id, only_idle=True)


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
