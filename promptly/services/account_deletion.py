"""Account deletion: close the account, end and settle its requests, then remove it.

    open ──close──► closed: no key is valid, web workers end its requests at their next checkpoint
                       └── no hold is open ──► removed

Each step is a transaction of its own. A task that looks for closed accounts finishes deletions
that were interrupted between steps.
"""

import time
import uuid

from sqlalchemy import delete, func, select, update

from promptly.extensions import db
from promptly.models import Balance, Hold, UsageEvent, UsageRollup, User
from promptly.services.accounts import accounts, keys, trials
from promptly.services.mail import outbox
from promptly.services.metering import recovery
from promptly.services.metering.placing import SILENT_SECONDS
from promptly.services.payments import orders
from promptly.settings import Settings
from promptly.transactions import transaction

POLL_SECONDS = 0.1
# Closed accounts removed per run of the task.
BATCH = 100


def delete_account(user_id: int, settings: Settings, *, wait_seconds: float = 10.0) -> bool:
    """Delete an account and its data; opens transactions of its own.

    Its running requests are ended and settled first, those of a dead process at their last
    checkpoint. Returns False if one still runs after `wait_seconds`: the account is then closed,
    and `finish` removes it later. Idempotent: an account may be gone already.
    """
    with transaction():
        close(user_id, settings)
    deadline = time.monotonic() + wait_seconds
    while not _remove_idle(user_id):
        if time.monotonic() > deadline:
            _settle_silent(user_id)
            return _remove_idle(user_id)
        time.sleep(POLL_SECONDS)
    return True


def confirm(user_id: int, mail_id: int, settings: Settings) -> bool:
    """Delete the account of a followed mail link; return False if the link is no longer valid."""
    with transaction():
        accounts.lock(user_id)
        if not outbox.link_is_valid("confirm_deletion", user_id, mail_id):
            return False
        close(user_id, settings)
    delete_account(user_id, settings)
    return True


def finish() -> int:
    """Remove closed accounts without running requests, BATCH at most; return how many.

    Holds of dead processes are left to the metering sweep, which settles them.
    """
    with transaction():
        query = select(User.id).where(User.closed_at.is_not(None)).order_by(User.id).limit(BATCH)
        closed = list(db.session.scalars(query))
    return sum(_remove_idle(user_id) for user_id in closed)


def close(user_id: int, settings: Settings) -> None:
    """Start deleting an account: from this commit on it has no valid key or link and gets no mail.

    The address is released here already: registering it again creates a new account. Its mailbox
    is recorded first, if the release before created the account and no task has come to it since.
    """
    accounts.lock(user_id)
    trials.remember_account(user_id, settings)
    outbox.cancel_unsent(user_id)
    outbox.spend_links(user_id)
    keys.revoke_all(user_id)
    db.session.execute(
        update(User)
        .where(User.id == user_id, User.closed_at.is_(None))
        # Not a valid address, so no lookup by address finds the account.
        .values(closed_at=func.now(), email=f"deleted-{user_id}")
    )


def remove(user_id: int, *, only_idle: bool = False) -> bool:
    """Remove an account and its data; the hash of its mailbox stays.

    With `only_idle`, keep an account that has running requests and return False. Otherwise they
    find no account when they settle, and charge nothing. Purchases stay, without an owner.
    """
    accounts.lock(user_id)
    # Lock orders now: deleting the user below updates them, when the balance is already locked.
    orders.lock_all_of(user_id)
    keys.revoke_all(user_id)
    holds = select(Hold.request_id).where(Hold.user_id == user_id).order_by(Hold.request_id)
    # The lock order of settlements: hold, then balance.
    db.session.execute(holds.with_for_update())
    balance = select(Balance.user_id).where(Balance.user_id == user_id)
    db.session.execute(balance.with_for_update())
    # Check under the balance lock: no hold can be placed from here on.
    if only_idle and db.session.execute(holds.where(Hold.state == "open")).first() is not None:
        return False
    db.session.execute(delete(Balance).where(Balance.user_id == user_id))
    for table in (Hold, UsageEvent, UsageRollup):
        db.session.execute(delete(table).where(table.user_id == user_id))
    db.session.execute(delete(User).where(User.id == user_id))
    return True


def _remove_idle(user_id: int) -> bool:
    with transaction():
        # Check without locks first, so that settlements in progress do not wait for it.
        return not _open_holds(user_id) and remove(user_id, only_idle=True)


def _settle_silent(user_id: int) -> None:
    """Settle holds without a checkpoint for SILENT_SECONDS: their process is dead or stopped."""
    with transaction():
        holds = _open_holds(user_id)
    for hold in holds:
        with transaction() as session:
            recovery.recover(session, hold, SILENT_SECONDS)


def _open_holds(user_id: int) -> list[uuid.UUID]:
    query = select(Hold.request_id).where(Hold.user_id == user_id, Hold.state == "open")
    return list(db.session.scalars(query.order_by(Hold.request_id)))
