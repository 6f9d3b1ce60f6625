"""The outbox: mails stored in the transaction of their cause, leased for sending, and recorded.

    pending ──claim──► pending, leased ──► sent
       ▲                     │ 4xx, no connection: next_at later
       └─────────────────────┤
                             └ 5xx, too many attempts ──► failed          any unsent ──► cancelled

A lease belongs to one attempt. An attempt stops if its lease is gone or the mail is cancelled.
"""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, text, update

from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import OutboxMail
from promptly.services.leases import Lease, Leases, new_holder
from promptly.services.paging import PAGE_SIZE, START, Cursor, Page, newest_first
from promptly.transactions import enqueue

# Longer than the slowest attempt that the mail client's timeouts allow.
LEASE_SECONDS = 120
MAX_ATTEMPTS = 30
FIRST_DELAY_SECONDS = 15
LONGEST_DELAY_SECONDS = 3600
ERROR_LENGTH = 300

LINK_HOURS = 24
# Mails that ask for a confirmation; their link works once.
WITH_LINK = frozenset({"confirm_reissue", "confirm_deletion"})

_LEASES = Leases(OutboxMail.id, OutboxMail.leased_by, OutboxMail.leased_until, LEASE_SECONDS)


def add(
    kind: str, recipient: str, *, user_id: int | None, payload: dict[str, Any] | None = None
) -> OutboxMail:
    """Store a mail in the outbox; it is sent after the surrounding transaction has committed.

    `payload` is the data for its template, never a key.
    """
    mail = OutboxMail(kind=kind, recipient=recipient, user_id=user_id, payload=payload or {})
    db.session.add(mail)
    db.session.flush()
    enqueue("promptly.tasks.mail.deliver", mail.id)
    return mail


def claim(mail_id: int | None = None, *, kinds: Collection[str] | None = None) -> Lease | None:
    """Lease one due mail, or the given one if it is due; return None if there is none.

    Mails of other `kinds` are left to a worker that knows them.
    """
    due = select(OutboxMail.id).where(
        OutboxMail.state == "pending", OutboxMail.next_at <= func.now()
    )
    if mail_id is not None:
        due = due.where(OutboxMail.id == mail_id)
    if kinds is not None:
        due = due.where(OutboxMail.kind.in_(kinds))
    holder = new_holder()
    statement = (
        _LEASES.take_first(due.order_by(OutboxMail.next_at, OutboxMail.id), holder)
        .values(attempts=OutboxMail.attempts + 1)
        .returning(OutboxMail.id)
    )
    found = db.session.scalar(statement)
    return None if found is None else Lease(found, holder)


def leased(lease: Lease) -> OutboxMail | None:
    """Return the mail of a lease, locked; None if it was cancelled or another attempt has it."""
    query = select(OutboxMail).where(_LEASES.held(lease), OutboxMail.state == "pending")
    return db.session.scalar(query.with_for_update().execution_options(populate_existing=True))


def peek(lease: Lease) -> OutboxMail | None:
    """Return the mail of a lease without a lock, to find the account that must be locked first."""
    return db.session.get(OutboxMail, lease.row_id)


def record_sent(lease: Lease) -> bool:
    """Record that the mail server accepted a mail; return False if cancelled in the meantime."""
    return _end(lease, state="sent", sent_at=func.now(), last_error=None)


def record_failed(lease: Lease, reason: str) -> bool:
    """Record that a mail has failed for good."""
    return _end(lease, state="failed", last_error=reason[:ERROR_LENGTH])


def record_retry(lease: Lease, attempts: int, reason: str) -> bool:
    """Schedule the next attempt to send a mail; after MAX_ATTEMPTS record it as failed."""
    if attempts >= MAX_ATTEMPTS:
        return record_failed(lease, reason)
    delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (attempts - 1))
    next_at = func.now() + timedelta(seconds=delay)
    return _end(lease, next_at=next_at, last_error=reason[:ERROR_LENGTH])


def cancel_unsent(user_id: int, kind: str | None = None) -> int:
    """Cancel the unsent mails of an account; return how many.

    A mail that is being sent is cancelled too: the result of its attempt is then ignored.
    """
    statement = update(OutboxMail).where(
        OutboxMail.user_id == user_id, OutboxMail.state == "pending"
    )
    if kind is not None:
        statement = statement.where(OutboxMail.kind == kind)
    statement = statement.values(state="cancelled")
    return len(db.session.execute(statement.returning(OutboxMail.id)).all())


def cancel(mail_id: int) -> OutboxMail | None:
    """Cancel one unsent mail; return None if it is not waiting."""
    statement = (
        update(OutboxMail)
        .where(OutboxMail.id == mail_id, OutboxMail.state == "pending")
        .values(state="cancelled")
        .returning(OutboxMail)
    )
    return db.session.scalar(statement)


def resend(mail_id: int) -> OutboxMail | None:
    """Send a mail again, whatever its state; return None if no mail has this id."""
    statement = (
        update(OutboxMail)
        .where(OutboxMail.id == mail_id)
        .values(
            state="pending",
            attempts=0,
            next_at=func.now(),
            last_error=None,
            sent_at=None,
            **_LEASES.none,
        )
        .returning(OutboxMail)
    )
    mail = db.session.scalar(statement)
    if mail is not None:
        enqueue("promptly.tasks.mail.deliver", mail.id)
    return mail


def find(mail_id: int) -> OutboxMail:
    """Return one mail; raises NotFound."""
    mail = db.session.get(OutboxMail, mail_id)
    if mail is None:
        raise NotFound("There is no such mail.")
    return mail


def page(
    limit: int = PAGE_SIZE,
    at: Cursor = START,
    *,
    state: str | None = None,
    kind: str | None = None,
    user_id: int | None = None,
    number: str | None = None,
) -> Page[OutboxMail]:
    """Return a page of mails, newest first; `number` is that of the purchase a mail is about."""
    query = select(OutboxMail)
    if state is not None:
        query = query.where(OutboxMail.state == state)
    if kind is not None:
        query = query.where(OutboxMail.kind == kind)
    if user_id is not None:
        query = query.where(OutboxMail.user_id == user_id)
    if number is not None:
        query = query.where(OutboxMail.payload["number"].astext == number)
    return newest_first(query, OutboxMail.id, limit, at)


def count(state: str) -> int:
    """Return the number of mails in a state."""
    query = select(func.count()).select_from(OutboxMail).where(OutboxMail.state == state)
    return db.session.scalar(query) or 0


def link_is_valid(kind: str, user_id: int, mail_id: int) -> bool:
    """Whether the link in a mail is still valid: it works once."""
    query = select(OutboxMail.id).where(
        OutboxMail.id == mail_id,
        OutboxMail.user_id == user_id,
        OutboxMail.kind == kind,
        OutboxMail.state != "cancelled",
        OutboxMail.payload["spent"].astext.is_(None),
    )
    return db.session.scalar(query) is not None


def spend_links(user_id: int, kind: str | None = None) -> None:
    """Invalidate every link that was mailed to an account, or those of one kind of mail."""
    kinds = WITH_LINK if kind is None else {kind}
    db.session.execute(
        update(OutboxMail)
        .where(OutboxMail.user_id == user_id, OutboxMail.kind.in_(kinds))
        .values(payload=OutboxMail.payload.op("||")(text("""'{"spent": true}'::jsonb""")))
    )


def _end(lease: Lease, **values: Any) -> bool:
    statement = (
        _LEASES.release(lease)
        .where(OutboxMail.state == "pending")
        .values(values)
        .returning(OutboxMail.id)
    )
    return db.session.execute(statement).first() is not None
