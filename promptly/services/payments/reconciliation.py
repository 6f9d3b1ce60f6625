"""Reconciliation: compare our orders with the providers' lists, both ways, and fix differences.

Each run checks
- every unsettled order: ask its provider;
- Bitcoin refunds: those on their way, and those in BTCPay's list that nobody reported;
- the provider's pages that may have been paid: does the order exist, and does it agree?
- Stripe's own list of events: which never arrived?
- events that wait, and refunds without an answer;
- owed tokens that a running request held at the time.

One run at a time, limited in time and number, with a share of the time for each provider and each
of these. Nothing is dropped: the next run continues where this one stopped, the least recently
checked first. Opens transactions of its own.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import func, select, text

from promptly.clients.provider_errors import ProviderProblem, ProviderRefused
from promptly.clock import utcnow
from promptly.extensions import db
from promptly.models import Reconciliation
from promptly.services.payments import (
    cases,
    inherited_pages,
    installation,
    orders,
    refunds,
    reversals,
    slices,
    sync,
    unreported_refunds,
    webhook_handler,
    webhook_inbox,
)
from promptly.services.payments.funds import REQUESTED
from promptly.services.payments.providers import registry
from promptly.services.payments.providers.base import Provider
from promptly.services.payments.reconciliation_report import Report
from promptly.services.payments.snapshot import ProviderSnapshot
from promptly.services.payments.webhook_events import (
    STRIPE_SUBSCRIBED,
    STRIPE_TYPES,
    ReceivedEvent,
)
from promptly.settings import Settings
from promptly.transactions import transaction

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Below the time limit of a task.
BUDGET_SECONDS = 150.0
LEASE = timedelta(minutes=5)
MOST_ORDERS = 300
MOST_FOLLOWED = 30
MOST_LISTED = 5000
MOST_EVENTS = 500

# A checkout at Stripe lasts a day at most; a Bitcoin invoice may be marked by hand days later.
LISTED_BACK = {"stripe": timedelta(hours=25), "btcpay": timedelta(days=7)}
OVERLAP = timedelta(hours=1)
# How far Stripe's list of events reaches back.
LONGEST_BACK = timedelta(days=30)

# Events that operators need not subscribe to: that they did not arrive is nothing to report.
NEVER_MISSED = STRIPE_TYPES.keys() - STRIPE_SUBSCRIBED


@dataclass(frozen=True)
class _Run:
    row_id: int
    since: datetime
    deadline: float

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def share(self, of: int) -> "_Run":
        """Return this run with a part of the time that is left: one of `of`."""
        return replace(self, deadline=time.monotonic() + self.left / of)


def run(settings: Settings, *, actor: str) -> Reconciliation | None:
    """Compare and fix; return None if another run is active."""
    current = _begin(actor)
    if current is None:
        return None
    report = Report()
    offered = registry.offered(settings)
    for number, name in enumerate(offered):
        # One more share is for the events and refunds that wait.
        share = current.share(len(offered) - number + 1)
        try:
            with registry.connect(name, settings, max(share.left, 1.0)) as provider:
                _compare(provider, share, report)
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
    """Compare orders, refunds, pages and events, each with a part of the time that is left."""
    _compare_orders(provider, current.share(2), report)
    _follow_refunds(provider, current.share(3), report)
    _compare_lists(provider, current, report)


def _compare_orders(provider: Provider, current: _Run, report: Report) -> None:
    with transaction():
        waiting = orders.unsettled(provider.name, MOST_ORDERS + 1, before=utcnow())
    for place, order_id in enumerate(waiting):
        if place == MOST_ORDERS or current.left <= 0:
            # Least recently checked first: they are the first of the next run.
            report.orders_left += len(waiting) - place
            break
        _sync(order_id, provider, report)


def _follow_refunds(provider: Provider, current: _Run, report: Report) -> None:
    """Sync orders with refunds that nobody reported, and with those that are on their way."""
    try:
        unreported = unreported_refunds.find(provider)
    except ProviderProblem as problem:
        # Perhaps the key may not list them; all else goes on.
        report.problems.append(f"{provider.name} refunds: {problem.reason}")
        unreported = {}
    with transaction():
        followed = reversals.offered(provider.name, MOST_FOLLOWED)
    for order_id in {**unreported, **dict.fromkeys(followed)}:
        if current.left > 0:
            _sync(order_id, provider, report, refund_ids=unreported.get(order_id, ()))
            report.refunds_followed += 1


def _compare_lists(provider: Provider, current: _Run, report: Report) -> None:
    pages_run = current.share(2)

    def compare_pages(listed: list[ProviderSnapshot]) -> bool:
        for snapshot in listed:
            if pages_run.left <= 0:
                return False
            report.pages_listed += 1
            _compare_page(snapshot, provider, report)
        return True

    def record_events(listed: list[ReceivedEvent]) -> bool:
        report.events_listed += len(listed)
        with transaction():
            for event in listed:
                new = webhook_inbox.record(event)
                report.events_missed += new and event.type not in NEVER_MISSED
        return True

    back = utcnow() - LISTED_BACK[provider.name]
    _read(f"{provider.name} pages", provider.listed, compare_pages, back, pages_run, report)
    _read(f"{provider.name} events", provider.events, record_events, utcnow(), current, report)


def _read(
    what: str,
    fetch: slices.Fetch[T],
    handle: Callable[[list[T]], bool],
    back: datetime,
    current: _Run,
    report: Report,
) -> None:
    """Read a list of the provider from where the last run stopped; `handle` may stop it again."""
    name = f"payments {what}"
    with transaction():
        since = slices.start(name, current.since, back, int(OVERLAP.total_seconds()))
    now = utcnow()
    since = max(since, int((now - LONGEST_BACK).timestamp()))
    # The provider's clock may be ahead of ours.
    until, read = int(now.timestamp()) + 60, 0
    for end, items in slices.slices(fetch, since, until):
        if not handle(items):
            report.problems.append(f"{what}: time ran out, the rest next time")
            return
        read += len(items)
        with transaction():
            slices.advance(name, end)
        if end < until and (read >= MOST_LISTED or current.left <= 0):
            moment = datetime.fromtimestamp(end, UTC)
            report.problems.append(
                f"{what}: read until {moment:%Y-%m-%d %H:%M}, the rest next time"
            )
            return
    with transaction():
        slices.finish(name, int(now.timestamp()))


def _sync(
    order_id: int,
    provider: Provider,
    report: Report,
    checkout_id: str | None = None,
    refund_ids: Sequence[str] = (),
) -> None:
    """Sync one order; a problem of this order alone does not stop the others."""
    try:
        report.note(sync.sync(order_id, provider, checkout_id, refund_ids))
    except ProviderRefused:
        # Stored with the order: its page is gone, or belongs to another account.
        report.orders_refused += 1
    except ProviderProblem:
        raise
    except Exception as problem:
        logger.exception("order not reconciled", extra={"order_id": order_id})
        report.problems.append(f"order {order_id}: {type(problem).__name__}")


def _compare_page(snapshot: ProviderSnapshot, provider: Provider, report: Report) -> None:
    with transaction():
        foreign = installation.is_foreign(snapshot)
    if foreign:
        report.pages_foreign += 1
        return
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
        agrees = orders.agrees(order_id, snapshot)
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
    silent = set()
    for row_id, provider in waiting:
        if current.left <= 0:
            return
        if provider in silent:
            continue
        outcome = refunds.execute_refund(row_id, settings)
        if outcome is not None and outcome.state == REQUESTED:
            # Still no answer: its others can wait for the next run.
            silent.add(provider)
        else:
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
