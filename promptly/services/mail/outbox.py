"""Mail that waits in the database: added with its cause, taken by lease, and what came of it.

    pending ──claim──► pending, leased ──► sent
       ▲                     │ 4xx, no connection: next_at later
       └─────────────────────┤
                             └ 5xx, too many attempts ──► failed          any unsent ──► cancelled

A lease belongs to one attempt. Whoever finds the lease gone or the mail cancelled stops.
"""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text, update

from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import OutboxMail
from promptly.services.paging import NEWEST, Cursor, Page, newest_first
from promptly.transactions import enqueue

# Longer than the slowest attempt that the mail client's timeouts allow.
LEASE_SECONDS = 120
MAX_ATTEMPTS = 30
FIRST_DELAY_SECONDS = 15
LONGEST_DELAY_SECONDS = 3600
ERROR_LENGTH = 300

LINK_HOURS = 24
# Mails that ask for a click, and whose link works once.
WITH_LINK = frozenset({"confirm_reissue", "confirm_deletion"})


@dataclass(frozen=True)
class Lease:
    """One attempt's right to send one mail."""

    mail_id: int
    holder: str


_CLAIM = text("""
UPDATE outbox
SET leased_by = :holder,
    leased_until = now() + make_interval(secs => :lease_seconds),
    attempts = attempts + 1
WHERE id = (
    SELECT id FROM outbox
    WHERE state = 'pending' AND next_at <= now()
      AND (leased_until IS NULL OR leased_until < now())
      AND (CAST(:mail_id AS bigint) IS NULL OR id = :mail_id)
    ORDER BY next_at, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING id
""")


def add(
    kind: str, recipient: str, *, user_id: int | None, payload: dict[str, Any] | None = None
) -> OutboxMail:
    """Write a mail into the outbox; it leaves after the surrounding transaction's commit.

    `payload` is what its template needs, never a key.
    """
    mail = OutboxMail(kind=kind, recipient=recipient, user_id=user_id, payload=payload or {})
    db.session.add(mail)
    db.session.flush()
    enqueue("promptly.tasks.mail.deliver", mail.id)
    return mail


def claim(mail_id: int | None = None) -> Lease | None:
    """Lease one due mail, or the given one if it is due; None if there is nothing to do."""
    holder = uuid.uuid4().hex
    parameters = {"holder": holder, "lease_seconds": LEASE_SECONDS, "mail_id": mail_id}
    found = db.session.scalar(_CLAIM, parameters)
    return None if found is None else Lease(found, holder)


def leased(lease: Lease) -> OutboxMail | None:
    """The mail of a lease, locked; None if it was cancelled or another attempt has it."""
    query = select(OutboxMail).where(OutboxMail.id == lease.mail_id, *_still_ours(lease))
    return db.session.scalar(query.with_for_update().execution_options(populate_existing=True))


def peek(lease: Lease) -> OutboxMail | None:
    """The mail of a lease, not locked: to learn whose account must be locked before it."""
    return db.session.get(OutboxMail, lease.mail_id)


def record_sent(lease: Lease) -> bool:
    """Note that a mail was accepted by the mail server; False if it was cancelled meanwhile."""
    return _end(lease, state="sent", sent_at=func.now(), last_error=None)


def record_failed(lease: Lease, reason: str) -> bool:
    """Note that a mail will never be accepted."""
    return _end(lease, state="failed", last_error=reason[:ERROR_LENGTH])


def record_retry(lease: Lease, attempts: int, reason: str) -> bool:
    """Let a mail wait for its next attempt; after too many it has failed."""
    if attempts >= MAX_ATTEMPTS:
        return record_failed(lease, reason)
    delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (attempts - 1))
    next_at = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, delay)
    return _end(lease, next_at=next_at, last_error=reason[:ERROR_LENGTH])


def cancel_unsent(user_id: int, kind: str | None = None) -> int:
    """Cancel the unsent mails of an account; returns how many.

    A mail that is just being sent is cancelled too: what its attempt reports is then ignored.
    """
    statement = update(OutboxMail).where(
        OutboxMail.user_id == user_id, OutboxMail.state == "pending"
    )
    if kind is not None:
        statement = statement.where(OutboxMail.kind == kind)
    statement = statement.values(state="cancelled")
    return len(db.session.execute(statement.returning(OutboxMail.id)).all())


def cancel(mail_id: int) -> OutboxMail | None:
    """Cancel one unsent mail; None if it is not waiting."""
    statement = (
        update(OutboxMail)
        .where(OutboxMail.id == mail_id, OutboxMail.state == "pending")
        .values(state="cancelled")
        .returning(OutboxMail)
    )
    return db.session.scalar(statement)


def resend(mail_id: int) -> OutboxMail | None:
    """Send a mail again, whatever became of it; None if there is none of this id."""
    statement = (
        update(OutboxMail)
        .where(OutboxMail.id == mail_id)
        .values(
            state="pending",
            attempts=0,
            next_at=func.now(),
            leased_by=None,
            leased_until=None,
            last_error=None,
            sent_at=None,
        )
        .returning(OutboxMail)
    )
    mail = db.session.scalar(statement)
    if mail is not None:
        enqueue("promptly.tasks.mail.deliver", mail.id)
    return mail


def find(mail_id: int) -> OutboxMail:
    """One mail; raises NotFound."""
    mail = db.session.get(OutboxMail, mail_id)
    if mail is None:
        raise NotFound("There is no such mail.")
    return mail


def page(
    limit: int = 50,
    at: Cursor = NEWEST,
    *,
    state: str | None = None,
    kind: str | None = None,
    user_id: int | None = None,
    number: str | None = None,
) -> Page[OutboxMail]:
    """Mails, newest first, page by page; `number` is of the purchase that a mail is about."""
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


def count_waiting() -> int:
    """How many mails wait to be sent."""
    return count("pending")


def count(state: str) -> int:
    """How many mails are in a state."""
    query = select(func.count()).select_from(OutboxMail).where(OutboxMail.state == state)
    return db.session.scalar(query) or 0


def link_is_good(kind: str, user_id: int, mail_id: int) -> bool:
    """Whether the link in a mail of ours can still be followed: it works once."""
    query = select(OutboxMail.id).where(
        OutboxMail.id == mail_id,
        OutboxMail.user_id == user_id,
        OutboxMail.kind == kind,
        OutboxMail.state != "cancelled",
        OutboxMail.payload["spent"].astext.is_(None),
    )
    return db.session.scalar(query) is not None


def spend_links(user_id: int, kind: str | None = None) -> None:
    """Make every link that was mailed to an account useless, or those of one kind of mail."""
    kinds = WITH_LINK if kind is None else {kind}
    db.session.execute(
        update(OutboxMail)
        .where(OutboxMail.user_id == user_id, OutboxMail.kind.in_(kinds))
        .values(payload=OutboxMail.payload.op("||")(text("""'{"spent": true}'::jsonb""")))
    )


def _still_ours(lease: Lease) -> tuple[Any, ...]:
    return (OutboxMail.state == "pending", OutboxMail.leased_by == lease.holder)


def _end(lease: Lease, **values: Any) -> bool:
    statement = (
        update(OutboxMail)
        .where(OutboxMail.id == lease.mail_id, *_still_ours(lease))
        .values(leased_by=None, leased_until=None, **values)
        .returning(OutboxMail.id)
    )
    return db.session.execute(statement).first() is not None
