"""Accounts: registration, lookup, and reissue of keys.

Lock order everywhere: account, order, mail, key, balance. An account's lock (`lock`) serialises
registrations, reissues, checkouts, and the creation of keys for mails.
`services.account_deletion` closes and removes accounts.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from promptly.errors import InvalidRequest, NotFound
from promptly.extensions import db
from promptly.models import Balance, User
from promptly.services.accounts import email_addresses, keys, trials
from promptly.services.mail import outbox
from promptly.services.paging import PAGE_SIZE, START, Cursor, Page, oldest_first
from promptly.settings import Settings


def register(email: str, settings: Settings) -> None:
    """Register an address, without revealing to the caller whether it is already known.

    A new address gets an account, its trial and a mail with a key. A known one gets a new key by
    mail, and its old keys are revoked in this transaction; with KEY_REISSUE_CONFIRM only a mail
    with a link. A trial that was deferred for want of trials on an earlier day is granted in either
    case. Raises InvalidRequest (param `email`) for an invalid address.
    """
    address = email_addresses.normalise(email)
    user = _insert(address, settings)
    if user is not None:
        outbox.add("new_key", address, user_id=user.id, payload=_trial_news(user))
        return
    # Select and lock together: a concurrent deletion clears the address.
    query = select(User).where(User.email == address).with_for_update(key_share=True)
    known = db.session.scalar(query.execution_options(populate_existing=True))
    if known is None:
        register(email, settings)
        return
    if known.trial_deferred:
        trials.claim(known, settings)
    if settings.key_reissue_confirm:
        outbox.cancel_unsent(known.id, kind="confirm_reissue")
        outbox.add("confirm_reissue", address, user_id=known.id)
    else:
        reissue(known)


def create(email: str, settings: Settings) -> User:
    """Create an account with its trial, without sending a mail.

    Raises InvalidRequest (param `email`) if the address is invalid or already known.
    """
    user = _insert(email_addresses.normalise(email), settings)
    if user is None:
        raise InvalidRequest("An account with this address exists already.", param="email")
    return user


def add(address: str, created_at: datetime | None = None) -> User | None:
    """Store an account with an empty balance; return None if its address is known.

    `address` must be normalised; `created_at` defaults to now. The caller records the mailbox with
    `trials.claim` or `trials.remember`.
    """
    values: dict[str, Any] = {"email": address, "mailbox_folding": email_addresses.FOLDING}
    if created_at is not None:
        values["created_at"] = created_at
    # Of two concurrent inserts, the second waits here for the first, then finds the address known.
    statement = insert(User).values(values).on_conflict_do_nothing().returning(User)
    user = db.session.scalar(statement)
    if user is not None:
        db.session.add(Balance(user_id=user.id))
        db.session.flush()
    return user


def reissue(user: User) -> None:
    """Revoke an account's keys and sessions, cancel its mails and links, and mail it a new key."""
    lock(user.id)
    # Mails first: a delivery that is just creating its key commits before, so its key is revoked.
    outbox.cancel_unsent(user.id)
    outbox.spend_links(user.id)
    keys.revoke_all(user.id)
    payload = {"reissued": True} | _trial_news(user)
    outbox.add("new_key", user.email, user_id=user.id, payload=payload)


def confirm_reissue(user_id: int, mail_id: int) -> bool:
    """Reissue the key of a followed mail link; return False if the link is no longer valid."""
    user = db.session.get(User, user_id)
    if user is None:
        return False
    lock(user_id)
    if not outbox.link_is_valid("confirm_reissue", user_id, mail_id):
        return False
    reissue(user)
    return True


def ask_to_delete(user_id: int) -> None:
    """Mail an account a link that deletes it; links of earlier mails become invalid.

    Raises NotFound if the account does not exist.
    """
    user = find(user_id=user_id)
    lock(user_id)
    outbox.cancel_unsent(user_id, kind="confirm_deletion")
    outbox.spend_links(user_id, "confirm_deletion")
    outbox.add("confirm_deletion", user.email, user_id=user_id)


def find(*, email: str | None = None, user_id: int | None = None) -> User:
    """Return the account with this address (exact spelling) or id.

    Raises NotFound, and InvalidRequest (param `email`) for an invalid address.
    """
    query = select(User)
    if user_id is not None:
        query = query.where(User.id == user_id)
    if email is not None:
        query = query.where(User.email == email_addresses.normalise(email))
    user = db.session.scalar(query) if email is not None or user_id is not None else None
    if user is None:
        raise NotFound("There is no such account.")
    return user


def search(
    part: str = "", limit: int = PAGE_SIZE, at: Cursor = START
) -> Page[tuple[User, Balance]]:
    """Return accounts whose address contains `part`, ignoring case, by id, with their balances."""
    query = select(User, Balance).join(Balance, Balance.user_id == User.id)
    if part:
        query = query.where(User.email.icontains(part, autoescape=True))
    return oldest_first(query, User.id, limit, at)


def lock(user_id: int) -> None:
    """Lock an account against concurrent changes of its keys and mails."""
    # The weaker of the two exclusive locks: inserts that reference the account do not wait.
    statement = text("SELECT 1 FROM users WHERE id = :user_id FOR NO KEY UPDATE")
    db.session.execute(statement, {"user_id": user_id})


def is_closed(user_id: int) -> bool:
    """Whether an account's deletion has started, or is complete."""
    query = select(User.id).where(User.id == user_id, User.closed_at.is_(None))
    return db.session.scalar(query) is None


def is_suspended(user_id: int) -> bool:
    query = select(User.id).where(User.id == user_id, User.suspended_at.is_not(None))
    return db.session.scalar(query) is not None


def _insert(address: str, settings: Settings) -> User | None:
    user = add(address)
    if user is not None:
        trials.claim(user, settings)
    return user


def _trial_news(user: User) -> dict[str, bool]:
    # In the mail only: on the page it would tell whether the address is new.
    return {"trial_deferred": True} if user.trial_deferred else {}
