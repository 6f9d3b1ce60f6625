"""Reconciliation: compare our orders with the providers' lists, both ways, and fix differences.

Each run checks
- every unsettled order: ask its provider;
- the provider's pages that may have been paid: does the order exist, and does it agree?
- Stripe's own list of events: which never arrived?
- events that wait, and refunds without an answer;
- owed tokens that a running request held at the time.

One run at a time, limited in time and number; the next one continues. Opens transactions of its
own.
"""

import logging
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, text

from promptly.clients.provider_errors import ProviderProblem, ProviderRefused
from promptly.clock import utcnow
from promptly.extensions import db
from promptly.models import Reconciliation
from promptly.services.payments import (
    cases,
    inherited_pages,
    orders,
    refunds,
    reversals,
    sync,
    webhook_handler,
    webhook_inbox,
)
from promptly.services.payments.providers import registry
from promptly.services.payments.providers.base import Provider
from promptly.services.payments.snapshot import ProviderSnapshot
from promptly.services.payments.sync import Synced
from promptly.settings import Settings
from promptly.transactions import transaction

logger = logging.getLogger(__name__)

# Below the time limit of a task.
BUDGET_SECONDS = 150.0
LEASE = timedelta(minutes=5)
MOST_ORDERS = 300
MOST_LISTED = 2000
MOST_EVENTS = 500
MOST_CHANGES_REPORTED = 100

# A checkout at Stripe lasts a day at most; a Bitcoin invoice may be marked by hand days later.
LISTED_BACK = {"stripe": timedelta(hours=25), "btcpay": timedelta(days=7)}
OVERLAP = timedelta(hours=1)
# How far Stripe's list of events reaches back.
LONGEST_BACK = timedelta(days=30)


@dataclass
class Report:
    """Counts of what a run checked, found and fixed."""

    orders_checked: int = 0
    orders_refused: int = 0
    pages_listed: int = 0
    pages_unknown: int = 0
    events_listed: int = 0
    events_missed: int = 0
    events_handled: int = 0
    refunds_finished: int = 0
    orders_collected: int = 0
    changed: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, synced: Synced | None) -> None:
        """Count a compared order and record its change of state, if any."""
        self.orders_checked += 1
        if synced is None or synced.before == synced.after:
            return
        if len(self.changed) < MOST_CHANGES_REPORTED:
            self.changed.append(asdict(synced))


@dataclass(frozen=True)
class _Run:
    row_id: int
    since: datetime
    deadline: float

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()


def run(settings: Settings, *, actor: str) -> Reconciliation | None:
    """Compare and fix; return None if another run is active."""
    current = _begin(actor)
    if current is None:
        return None
    report = Report()
    for name in registry.offered(settings):
        try:
            with registry.connect(name, settings, max(current.left, 1.0)) as provider:
                _compare(provider, current, report)
        except ProviderProblem as problem:
            report.problems.append(f"{name}: {problem.reason}")
    _handle_events(settings, current, report)
    _finish_refunds(settings, current, report)
    _collect(report)
    if current.left <= 0:
        report.problems.append("time ran out")
    return _finish(current, report)


def newest(limit: int = 1) -> list[Reconciliation]:
    """Return the newest runs, newest first."""
    query = select(Reconciliation).order_by(Reconciliation.id.desc()).limit(limit)
    return list(db.session.scalars(query))


def purge(retention_days: int) -> None:
    """Delete the reports of old runs."""
    db.session.execute(
        text("DELETE FROM payment_reconciliations WHERE started_at < now() - :age"),
        {"age": timedelta(days=retention_days)},
    )


def _begin(actor: str) -> _Run | None:
    """Store a run unless another one is active; return None if one is.

    Its lease is not one of `services.leases`: a run's row has no holder and is stored with its
    lease, once, under an advisory lock.
    """
    with transaction() as session:
        session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended('promptly:reconcile', 0))")
        )
        running = select(Reconciliation.id).where(
            Reconciliation.finished_at.is_(None), Reconciliation.leased_until > func.now()
        )
        if session.scalar(running) is not None:
            return None
        complete = select(func.max(Reconciliation.started_at)).where(Reconciliation.complete)
        last = session.scalar(complete)
        now = utcnow()
        row = Reconciliation(actor=actor, leased_until=now + LEASE)
        session.add(row)
        session.flush()
        earliest = now - LONGEST_BACK
        since = earliest if last is None else max(earliest, last - OVERLAP)
        return _Run(row.id, since, time.monotonic() + BUDGET_SECONDS)


def _finish(current: _Run, report: Report) -> Reconciliation:
    with transaction() as session:
        row = session.get_one(Reconciliation, current.row_id)
        row.finished_at = utcnow()
        row.complete = not report.problems
        row.report = asdict(report)
        session.flush()
        session.refresh(row)
        session.expunge(row)
    fields: dict[str, Any] = {"changed": len(report.changed), "problems": report.problems}
    level = logging.WARNING if report.problems else logging.INFO
    logger.log(level, "payments reconciled", extra=fields)
    return row


def _compare(provider: Provider, current: _Run, report: Report) -> None:
    with transaction():
        waiting = orders.unsettled(provider.name, MOST_ORDERS, before=utcnow())
    for order_id in waiting:
        _sync(order_id, provider, report)
    back = min(current.since, utcnow() - LISTED_BACK[provider.name])
    listed = provider.listed(back, MOST_LISTED)
    report.pages_listed += len(listed)
    if len(listed) >= MOST_LISTED:
        report.problems.append(f"{provider.name}: more than {MOST_LISTED} pages")
    for snapshot in listed:
        _compare_page(snapshot, provider, report)
    events = provider.events(current.since, MOST_LISTED)
    report.events_listed += len(events)
    with transaction():
        report.events_missed += sum(webhook_inbox.record(event) for event in events)


def _sync(
    order_id: int, provider: Provider, report: Report, checkout_id: str | None = None
) -> None:
    """Sync one order; a problem of this order alone does not stop the others."""
    try:
        report.note(sync.sync(order_id, provider, checkout_id))
    except ProviderRefused:
        # Stored with the order: its page is gone, or belongs to another account.
        report.orders_refused += 1
    except ProviderProblem:
        raise
    except Exception as problem:
        logger.exception("order not reconciled", extra={"order_id": order_id})
        report.problems.append(f"order {order_id}: {type(problem).__name__}")


def _compare_page(snapshot: ProviderSnapshot, provider: Provider, report: Report) -> None:
    if snapshot.order_number is None:
        with transaction():
            report.pages_unknown += inherited_pages.note(snapshot)
        return
    with transaction():
        order_id = orders.id_of(provider.name, number=snapshot.order_number)
        if order_id is None:
            report.pages_unknown += 1
            if snapshot.has_money:
                cases.raise_unknown(snapshot)
            return
        agrees = orders.agrees(
            order_id, snapshot.checkout_id, snapshot.provider_status, has_money=snapshot.has_money
        )
    if not agrees:
        _sync(order_id, provider, report, snapshot.checkout_id)


def _handle_events(settings: Settings, current: _Run, report: Report) -> None:
    while report.events_handled < MOST_EVENTS and current.left > 0:
        try:
            if not webhook_handler.handle(settings):
                return
        except Exception as problem:
            logger.exception("webhook event not handled")
            report.problems.append(f"a webhook event: {type(problem).__name__}")
        report.events_handled += 1


def _finish_refunds(settings: Settings, current: _Run, report: Report) -> None:
    with transaction():
        waiting = refunds.waiting()
    for row_id in waiting:
        if current.left <= 0:
            return
        outcome = refunds.execute_refund(row_id, settings)
        if outcome is not None and outcome.state == reversals.REQUESTED:
            # Still no answer: the others can wait for the next run.
            return
        report.refunds_finished += outcome is not None


def _collect(report: Report) -> None:
    """Take owed tokens from lots that have some left: a running request held them before."""
    with transaction():
        owing = orders.owing_with_tokens_left(MOST_ORDERS)
    for order_id in owing:
        with transaction():
            order = orders.lock(order_id)
            owed = order.tokens_owed
            reversals.settle(order, actor=order.provider)
            report.orders_collected += order.tokens_owed < owed
