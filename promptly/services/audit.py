"""The audit log: who administered what, with the state before and after; append-only.

An entry is written in the transaction of its act, so neither exists without the other. It names
accounts by number and contains neither their addresses nor keys, so that it may outlive them.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from promptly.extensions import db
from promptly.models import AuditEntry
from promptly.services.paging import PAGE_SIZE, START, Cursor, Page, newest_first

# Recorded actions, by which the log can be searched; refused sign-ins are recorded too.
ACTIONS = (
    "account.create",
    "account.delete",
    "account.import",
    "account.limit",
    "account.resume",
    "account.suspend",
    "balance.adjust",
    "balance.grant",
    "hold.recover",
    "key.batch",
    "key.create",
    "key.limit",
    "key.reissue",
    "key.revoke",
    "mail.cancel",
    "mail.resend",
    "payment.check",
    "payment.read",
    "payment.reconcile",
    "payment.refund",
    "payment.resolve",
    "prices.change",
    "session.end",
    "session.open",
    "session.refuse",
    "trial.expire",
    "upstream.drain",
    "upstream.resume",
    "webhook.replay",
)


@dataclass(frozen=True)
class Operator:
    """The actor, and the client's address, if there is one.

    Actors are `panel:<name>`, `api:<name>`, with the name of the admin key, and `cli:<user>`.
    """

    actor: str
    address: str | None = None

    def record(
        self,
        action: str,
        *,
        user_id: int | None = None,
        subject: str | None = None,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> int:
        """Record an act of this operator; return the entry's number."""
        return record(
            action,
            actor=self.actor,
            address=self.address,
            user_id=user_id,
            subject=subject,
            before=before,
            after=after,
        )


def record(
    action: str,
    *,
    actor: str,
    address: str | None = None,
    user_id: int | None = None,
    subject: str | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> int:
    """Record an act; return the entry's number.

    `subject` names another object of the act; `before` and `after` are figures and states.
    """
    row = AuditEntry(
        action=action,
        actor=actor,
        address=address,
        user_id=user_id,
        subject=subject,
        before=_plain(before),
        after=_plain(after),
    )
    db.session.add(row)
    db.session.flush()
    return row.id


def entries(
    limit: int = PAGE_SIZE, *, at: Cursor = START, user_id: int | None = None, action: str = ""
) -> Page[AuditEntry]:
    """Return a page of the log, newest first, of all accounts and actions or of one."""
    query = select(AuditEntry)
    if user_id is not None:
        query = query.where(AuditEntry.user_id == user_id)
    if action:
        query = query.where(AuditEntry.action == action)
    return newest_first(query, AuditEntry.id, limit, at)


def find(entry_id: int) -> AuditEntry | None:
    return db.session.get(AuditEntry, entry_id)


def find_act(action: str, user_id: int, subject: str | None) -> int | None:
    """Return the number of the first entry of this action on this account and subject."""
    query = select(AuditEntry.id).where(
        AuditEntry.user_id == user_id, AuditEntry.action == action, AuditEntry.subject == subject
    )
    return db.session.scalar(query.order_by(AuditEntry.id).limit(1))


def _plain(values: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the values with timestamps as ISO 8601 text, because JSON has no type for them."""
    if values is None:
        return None
    return {
        name: f"{value:%Y-%m-%dT%H:%M:%S}Z" if isinstance(value, datetime) else value
        for name, value in values.items()
    }
