"""Accounts: registration, look-up, reissue of a key.

Lock order everywhere: account, order, mail, key, balance. An account's lock (`lock`) puts
registrations, reissues, checkouts and mails that are just making a key one after the other.
`services.account_deletion` closes and removes accounts.
"""

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from promptly.errors import InvalidRequest, NotFound
from promptly.extensions import db
from promptly.models import Balance, User
from promptly.services.accounts import email_addresses, keys, trials
from promptly.services.mail import outbox
from promptly.settings import Settings


def register(email: str, settings: Settings) -> None:
    """Do what a registration asks for; the caller learns nothing of whether the address is known.

    A new address gets an account, its trial and a mail with a key. A known one gets a new key by
    mail, and every old key is refused once this is committed; with KEY_REISSUE_CONFIRM only a
    mail with a link. Raises InvalidRequest (param `email`) for what is no address.
    """
    address = email_addresses.normalise(email)
    user = _insert(address, settings)
    if user is not None:
        outbox.add("new_key", address, user_id=user.id)
        return
    # Found and locked at once: whose deletion begins at this moment has no address any more.
    query = select(User).where(User.email == address).with_for_update(key_share=True)
    known = db.session.scalar(query.execution_options(populate_existing=True))
    if known is None:
        register(email, settings)
    elif settings.key_reissue_confirm:
        outbox.cancel_unsent(known.id, kind="confirm_reissue")
        outbox.add("confirm_reissue", address, user_id=known.id)
    else:
        reissue(known)


def create(email: str, settings: Settings) -> User:
    """Make an account with its trial, and no mail.

    Raises InvalidRequest (param `email`) if the address is none, or known.
    """
    user = _insert(email_addresses.normalise(email), settings)
    if user is None:
        raise InvalidRequest("An account with this address exists already.", param="email")
    return user


def reissue(user: User) -> None:
    """Revoke every key, session and unsent mail of an account, and mail it a new key."""
    lock(user.id)
    # Mails first: one that is making its key at this moment ends before, and its key is seen.
    outbox.cancel_unsent(user.id)
    outbox.spend_links(user.id)
    keys.revoke_all(user.id)
    outbox.add("new_key", user.email, user_id=user.id, payload={"reissued": True})


def confirm_reissue(user_id: int, mail_id: int) -> bool:
    """Reissue a key because the link of a mail was followed; False if that link is spent."""
    user = db.session.get(User, user_id)
    if user is None:
        return False
    lock(user_id)
    if not outbox.link_is_good("confirm_reissue", user_id, mail_id):
        return False
    reissue(user)
    return True


def ask_to_delete(user_id: int) -> None:
    """Mail an account a link to its deletion; those of earlier mails are spent.

    Raises NotFound if there is no such account.
    """
    user = find(user_id=user_id)
    lock(user_id)
    outbox.cancel_unsent(user_id, kind="confirm_deletion")
    outbox.spend_links(user_id, "confirm_deletion")
    outbox.add("confirm_deletion", user.email, user_id=user_id)


def find(*, email: str | None = None, user_id: int | None = None) -> User:
    """The account of this address (exact spelling) or id; raises NotFound."""
    query = select(User)
    if user_id is not None:
        query = query.where(User.id == user_id)
    if email is not None:
        query = query.where(User.email == email_addresses.normalise(email))
    user = db.session.scalar(query) if email is not None or user_id is not None else None
    if user is None:
        raise NotFound("There is no such account.")
    return user


def search(part: str = "", limit: int = 50, after_id: int = 0) -> list[tuple[User, Balance]]:
    """Accounts whose address contains `part`, by id, with their balances."""
    query = select(User, Balance).join(Balance, Balance.user_id == User.id)
    if part:
        query = query.where(User.email.icontains(part, autoescape=True))
    query = query.where(User.id > after_id).order_by(User.id).limit(limit)
    return [(user, balance) for user, balance in db.session.execute(query)]


def lock(user_id: int) -> None:
    """Wait for other changes of this account's keys and mails, and keep new ones waiting."""
    # The weaker of the two exclusive locks: inserts that refer to the account go on.
    statement = text("SELECT 1 FROM users WHERE id = :user_id FOR NO KEY UPDATE")
    db.session.execute(statement, {"user_id": user_id})


def is_closed(user_id: int) -> bool:
    """Whether an account's deletion has begun, or ended."""
    query = select(User.id).where(User.id == user_id, User.closed_at.is_(None))
    return db.session.scalar(query) is None


def _insert(address: str, settings: Settings) -> User | None:
    # Of two at the same moment the second waits here for the first, then finds the address known.
    statement = insert(User).values(email=address).on_conflict_do_nothing().returning(User)
    user = db.session.scalar(statement)
    if user is None:
        return None
    db.session.add(Balance(user_id=user.id))
    db.session.flush()
    trials.claim(user, settings)
    return user
