"""Trials: granted once per mailbox, taken back when they expire."""

from sqlalchemy import ColumnElement, and_, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from promptly.extensions import db
from promptly.models import Balance, TrialClaim, User
from promptly.services.accounts import email_addresses, peppers, trial_limits
from promptly.services.ledger import ledger
from promptly.settings import Settings


def claim(user: User, settings: Settings) -> bool:
    """Grant an account its trial unless its mailbox has had one; return whether it did.

    Of concurrent registrations of one mailbox, exactly one gets it. An account made while there
    are no trials uses up its mailbox's trial too: otherwise another spelling of the address could
    fetch one later. Where a limit per day is reached, the trial is deferred and nothing used up.
    """
    with db.session.begin_nested() as attempt:
        entitled = remember(user.email, settings) and settings.trial_tokens > 0
        deferred = entitled and not trial_limits.take(user.email, settings)
        if deferred:
            attempt.rollback()
    user.trial_deferred = deferred
    if deferred or not entitled:
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
    hashes = email_addresses.mailbox_hashes(email, key)
    return _store(hashes) == hashes and not _is_unrecorded(email)


def remember_account(user_id: int, settings: Settings) -> None:
    """Record an account's mailbox if earlier versions left it to record."""
    query = select(User.email).where(User.id == user_id, _unrecorded())
    email = db.session.scalar(query)
    if email is not None:
        key = peppers.mailbox_key(peppers.SessionDatabase(), settings)
        _store(email_addresses.mailbox_hashes(email, key))


def remember_accounts(settings: Settings, *, after: int, batch: int) -> tuple[int | None, int]:
    """Record the mailboxes of a batch of accounts that earlier versions left to record.

    Their spellings were folded by fewer rules, or not recorded at all. Return the last account's
    id, None at the end, and the number of mailboxes not known before.
    """
    due = select(User.id, User.email).where(User.id > after, _unrecorded())
    rows = db.session.execute(
        due.order_by(User.id).limit(batch).with_for_update(key_share=True)
    ).all()
    if not rows:
        return None, 0
    key = peppers.mailbox_key(peppers.SessionDatabase(), settings)
    of_mailboxes = {email_addresses.mailbox_hash(row.email, key) for row in rows}
    both = {one for row in rows for one in email_addresses.mailbox_hashes(row.email, key)}
    added = _store(both) & of_mailboxes
    recorded = update(User).where(User.id.in_([row.id for row in rows]))
    db.session.execute(recorded.values(mailbox_folding=email_addresses.FOLDING))
    return rows[-1].id, len(added)


def count_unrecorded() -> int:
    """Return the number of accounts that `remember_accounts` has still to record."""
    return db.session.scalar(select(func.count()).select_from(User).where(_unrecorded())) or 0


def _store(hashes: set[bytes]) -> set[bytes]:
    """Record mailboxes by their hashes; return those not known before."""
    # In one order, so that transactions that record several do not wait for each other in a circle.
    values = [{"mailbox_hash": one} for one in sorted(hashes)]
    statement = insert(TrialClaim).values(values).on_conflict_do_nothing()
    return set(db.session.scalars(statement.returning(TrialClaim.mailbox_hash)))


def _unrecorded() -> ColumnElement[bool]:
    return and_(User.mailbox_folding < email_addresses.FOLDING, User.closed_at.is_(None))


def _is_unrecorded(email: str) -> bool:
    """Whether the mailbox belongs to an account that is still to be recorded.

    No row is left to compare soon after an upgrade. Until then, the account's address contains the
    folded local part at least, apart from punctuation.
    """
    folded = email_addresses.fold(email)
    part = folded.rpartition("@")[0].translate(str.maketrans("", "", ".-_"))
    bare = func.translate(func.lower(User.email), ".-_", "")
    query = select(User.email).where(_unrecorded(), func.strpos(bare, part) > 0)
    return any(email_addresses.fold(found) == folded for found in db.session.scalars(query))


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
