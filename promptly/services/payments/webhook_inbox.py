"""The inbox of webhooks: each event once, taken by lease, retried with growing delays.

pending ──► handled    its object was fetched and applied
   │  ├───► ignored    not relevant here, `reason` says why
   │  └───► parked     cannot be handled, `reason` says why; an operator may replay it
   └ the provider is unavailable: pending, next_at later
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import WebhookEvent
from promptly.models.states import EventState
from promptly.services.leases import Lease, Leases, new_holder
from promptly.services.paging import PAGE_SIZE, START, Cursor, Page, newest_first
from promptly.services.payments.webhook_events import ReceivedEvent
from promptly.transactions import enqueue

LEASE_SECONDS = 240
MAX_ATTEMPTS = 25
FIRST_DELAY_SECONDS = 10
LONGEST_DELAY_SECONDS = 3600
REASON_LENGTH = 300
PURGE_BATCH = 5000

_LEASES = Leases(WebhookEvent.id, WebhookEvent.leased_by, WebhookEvent.leased_until, LEASE_SECONDS)


@dataclass(frozen=True)
class EventLease(Lease):
    """The lease of one attempt to handle an event, and the event."""

    event: ReceivedEvent
    attempts: int


def record(event: ReceivedEvent) -> bool:
    """Store an event, to be handled after the commit; return False if it is known already."""
    state = "pending" if event.unused is None else "ignored"
    statement = (
        insert(WebhookEvent)
        .values(
            provider=event.provider,
            event_id=event.event_id,
            type=event.type,
            object_id=event.object_id,
            state=state,
            reason=event.unused,
        )
        .on_conflict_do_nothing()
        .returning(WebhookEvent.id)
    )
    row_id = db.session.scalar(statement)
    if row_id is not None and state == "pending":
        enqueue("promptly.tasks.payments.handle_event", row_id)
    return row_id is not None


def claim(row_id: int | None = None) -> EventLease | None:
    """Lease one due event, or the given one if it is due; return None if there is none."""
    due = select(WebhookEvent.id).where(
        WebhookEvent.state == "pending", WebhookEvent.next_at <= func.now()
    )
    if row_id is not None:
        due = due.where(WebhookEvent.id == row_id)
    holder = new_holder()
    statement = (
        _LEASES.take_first(due.order_by(WebhookEvent.next_at, WebhookEvent.id), holder)
        .values(attempts=WebhookEvent.attempts + 1)
        .returning(
            WebhookEvent.id,
            WebhookEvent.provider,
            WebhookEvent.event_id,
            WebhookEvent.type,
            WebhookEvent.object_id,
            WebhookEvent.attempts,
        )
    )
    row = db.session.execute(statement).first()
    if row is None:
        return None
    event = ReceivedEvent(row.provider, row.event_id, row.type, row.object_id)
    return EventLease(row.id, holder, event, row.attempts)


def finish(lease: Lease, state: str, reason: str | None = None) -> None:
    """Record that an event is handled, ignored or parked."""
    _end(lease, state=state, reason=_cut(reason), handled_at=func.now())


def postpone(lease: Lease, seconds: float) -> None:
    """Let an event wait without counting this attempt."""
    next_at = func.now() + timedelta(seconds=seconds)
    _end(lease, next_at=next_at, attempts=WebhookEvent.attempts - 1)


def try_again(lease: Lease) -> None:
    """Queue an event again for after the commit, without counting this attempt."""
    postpone(lease, 0)
    enqueue("promptly.tasks.payments.handle_event", lease.row_id)


def retry(lease: EventLease, reason: str) -> None:
    """Schedule the next attempt for an event; after MAX_ATTEMPTS park it."""
    if lease.attempts >= MAX_ATTEMPTS:
        finish(lease, "parked", f"given up after {lease.attempts} attempts: {reason}")
        return
    delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (lease.attempts - 1))
    _end(lease, next_at=func.now() + timedelta(seconds=delay), reason=_cut(reason))


def assign(lease: Lease, order_id: int) -> None:
    """Record which order an event is about."""
    db.session.execute(_LEASES.change(lease).values(order_id=order_id))


def wake(order_id: int) -> None:
    """Queue the events that waited for an order, for after the commit.

    Skip events being processed: their workers may be waiting for the order's row (deadlock).
    """
    waiting = (
        select(WebhookEvent.id)
        .where(
            WebhookEvent.order_id == order_id,
            WebhookEvent.state == "pending",
            WebhookEvent.leased_by.is_(None),
        )
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(WebhookEvent)
        .where(WebhookEvent.id.in_(waiting))
        .values(next_at=func.now())
        .returning(WebhookEvent.id)
        .execution_options(synchronize_session=False)
    )
    for row_id in db.session.scalars(statement).all():
        enqueue("promptly.tasks.payments.handle_event", row_id)


def replay(row_id: int) -> WebhookEvent:
    """Handle an event again, whatever its state; raises NotFound."""
    event = find(row_id)
    event.state, event.reason, event.attempts = EventState.PENDING, None, 0
    event.next_at, event.handled_at = func.now(), None
    _LEASES.clear(event)
    db.session.flush()
    enqueue("promptly.tasks.payments.handle_event", event.id)
    return event


def find(row_id: int) -> WebhookEvent:
    """Return one event; raises NotFound."""
    event = db.session.get(WebhookEvent, row_id)
    if event is None:
        raise NotFound("There is no such webhook event.")
    return event


def page(
    limit: int = PAGE_SIZE,
    at: Cursor = START,
    *,
    state: str | None = None,
    provider: str | None = None,
    order_id: int | None = None,
) -> Page[WebhookEvent]:
    """Return a page of events, newest first."""
    query = select(WebhookEvent)
    if state is not None:
        query = query.where(WebhookEvent.state == state)
    if provider is not None:
        query = query.where(WebhookEvent.provider == provider)
    if order_id is not None:
        query = query.where(WebhookEvent.order_id == order_id)
    return newest_first(query, WebhookEvent.id, limit, at)


def count(state: str) -> int:
    """Return the number of events in a state."""
    query = select(func.count()).select_from(WebhookEvent).where(WebhookEvent.state == state)
    return db.session.scalar(query) or 0


def purge(retention_days: int) -> int:
    """Delete a batch of events that are not pending and past the retention; return how many."""
    old = (
        select(WebhookEvent.id)
        .where(
            WebhookEvent.state != "pending",
            WebhookEvent.received_at < func.now() - timedelta(days=retention_days),
        )
        .limit(PURGE_BATCH)
    )
    statement = delete(WebhookEvent).where(WebhookEvent.id.in_(old)).returning(WebhookEvent.id)
    return len(db.session.execute(statement).all())


def _cut(reason: str | None) -> str | None:
    return None if reason is None else reason[:REASON_LENGTH]


def _end(lease: Lease, **values: Any) -> None:
    db.session.execute(_LEASES.release(lease).values(values))
