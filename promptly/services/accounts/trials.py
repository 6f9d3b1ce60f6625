"""Trials: granted once per mailbox, taken back when they expire."""

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from promptly.extensions import db
from promptly.models import Balance, TrialClaim, User
from promptly.services.accounts import email_addresses, peppers
from promptly.services.ledger import ledger
from promptly.settings import Settings


def claim(user: User, settings: Settings) -> bool:
    """Grant a new account its trial unless its mailbox has had one; return whether it did.

    Of concurrent registrations of one mailbox, exactly one gets it. An account made while there
    are no trials uses up its mailbox's trial too: otherwise another spelling of the address could
    fetch one later.
    """
    if not remember(user.email, settings) or settings.trial_tokens == 0:
        return False
    ledger.grant(
        user.id,
        settings.trial_tokens,
        settings.trial_expiry_days,
        kind="trial_grant",
        reference=f"account:{user.id}",
        actor="system",
    )
    return True


def remember(email: str, settings: Settings) -> bool:
    """Record that a mailbox has had its trial; return False if that is known."""
    key = peppers.mailbox_key(peppers.SessionDatabase(), settings)
    statement = (
        insert(TrialClaim)
        .values(mailbox_hash=email_addresses.mailbox_hash(email, key))
        .on_conflict_do_nothing()
        .returning(TrialClaim.mailbox_hash)
    )
    return db.session.execute(statement).first() is not None


def remember_accounts(settings: Settings, *, after: int, batch: int) -> tuple[int | None, int]:
    """Record the mailboxes of a batch of accounts as having had their trial.

    Return the last account's id, None at the end, and the number of mailboxes not known before.
    """
    query = select(User.id, User.email).where(User.id > after, User.closed_at.is_(None))
    rows = db.session.execute(query.order_by(User.id).limit(batch)).all()
    added = sum(remember(row.email, settings) for row in rows)
    return (rows[-1].id if rows else None), added


def expire(batch: int = 500) -> int:
    """Take back a batch of expired trials; return the number of accounts.

    Tokens held by a running request stay until they are freed, and lapse with a later call.
    """
    return len(ledger.lapse(batch=batch))


def list_running(limit: int = 100) -> list[tuple[User, Balance]]:
    """Return accounts that own trial tokens, those whose trial ends soonest first."""
    query = (
        select(User, Balance)
        .join(Balance, Balance.user_id == User.id)
        .where(Balance.trial_tokens > 0)
        .order_by(Balance.trial_expires_at, User.id)
        .limit(limit)
    )
    return [(user, balance) for user, balance in db.session.execute(query)]


def count_expired() -> tuple[int, int]:
    """Return the numbers of accounts and of tokens that `expire` would take back now."""
    row = db.session.execute(
        text("""
            SELECT count(*), coalesce(sum(trial_tokens - held_trial), 0)
            FROM balances WHERE trial_expires_at <= now() AND trial_tokens > held_trial
        """)
    ).one()
    return int(row[0]), int(row[1])
