"""The panel's first page: health, totals, and what needs the operator's attention."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import render_template

from promptly import labels
from promptly.blueprints.admin.overview_charts import (
    chart_days,
    outcome_figure,
    revenue_figures,
    sign_up_figure,
    table,
    usage_figures,
)
from promptly.clock import utcnow
from promptly.gateway import current_gateway
from promptly.runtime.redis_client import RedisUnavailable
from promptly.services import overview as figures
from promptly.services.accounts import directory
from promptly.services.ledger import verification
from promptly.services.payments.providers import registry
from promptly.services.usage import statistics
from promptly.services.usage.rollups import SWEEP_NAME
from promptly.settings import Settings, current_settings

# The sweep of holds runs every ten seconds; if it is later than this, no worker runs.
WORKER_SILENT = timedelta(seconds=60)
NEWEST_ACCOUNTS = 10
ROLL_UP_LATE = timedelta(minutes=15)


@dataclass(frozen=True)
class Server:
    """A model server as this process last saw it.

    `taken` counts the slots used by all processes; None if unknown.
    """

    name: str
    ready: bool
    model: str
    slots: int
    n_ctx: int
    taken: int | None


def overview() -> str:
    settings = current_settings()
    now = utcnow()
    days = chart_days(now.date())
    since = datetime(days[0].year, days[0].month, days[0].day, tzinfo=UTC)
    outcomes = statistics.outcomes(days[0], days[-1])
    runs = figures.last_runs()
    shown = [
        *usage_figures(days, statistics.daily(days[0], days[-1])),
        outcome_figure(days, outcomes),
        *revenue_figures(days, statistics.revenue(days[0], days[-1]), settings.packs_currency),
        sign_up_figure(days, figures.sign_ups(since)),
    ]
    headings, rows = table(shown)
    return render_template(
        "admin/overview.html",
        accounts=figures.accounts(since),
        newest=directory.page(limit=NEWEST_ACCOUNTS).rows,
        waiting=figures.waiting(),
        figures=shown,
        headings=headings,
        rows=rows,
        outcomes=_summed(outcomes),
        rolled_up_at=runs.get(SWEEP_NAME),
        troubles=_troubles(runs, now, settings),
        reconciliation=runs["reconciliation"],
        verification=verification.newest(),
        providers=[labels.PROVIDERS[name] for name in registry.offered(settings)],
        **_live(),
    )


def _live() -> dict[str, Any]:
    """Return the model servers with their slots in use, and the number of queued requests."""
    gateway = current_gateway()
    gateway.pool.seen()
    try:
        occupancy = gateway.slots.occupancy()
    except RedisUnavailable:
        occupancy = None
    servers = [
        Server(
            name=upstream.name,
            ready=upstream.ready,
            model=upstream.model,
            slots=upstream.slots,
            n_ctx=upstream.n_ctx,
            taken=None if occupancy is None else occupancy.taken.get(upstream.name, 0),
        )
        for upstream in gateway.pool.upstreams
    ]
    return {"servers": servers, "queued": None if occupancy is None else occupancy.waiting}


def _troubles(runs: dict[str, Any], now: datetime, settings: Settings) -> list[str]:
    """Return one sentence for each thing that does not work as it should."""
    found = []
    swept_at, rolled_up_at = runs.get("holds"), runs.get(SWEEP_NAME)
    if swept_at is None or now - swept_at > WORKER_SILENT:
        found.append(
            "The Celery worker or beat is not running: email, payments and totals are on hold."
        )
    elif now - (rolled_up_at or figures.first_account_at() or now) > ROLL_UP_LATE:
        found.append("The totals on this page are out of date: the roll-up is not running.")
    newest = runs["reconciliation"]
    if newest is not None and newest.finished_at is not None and not newest.complete:
        found.append("The last reconciliation with the payment providers was incomplete.")
    found += figures.database_troubles(settings)
    if not settings.smtp_host:
        found.append("No mail server is configured (SMTP_HOST): keys cannot be delivered.")
    return found


def _summed(rows: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """Return label, number and share of each outcome, most frequent first."""
    sums: dict[str, int] = {}
    for row in rows:
        sums[row["outcome"]] = sums.get(row["outcome"], 0) + row["requests"]
    total = sum(sums.values())
    ordered = sorted(sums.items(), key=lambda item: -item[1])
    return [
        (labels.plain(labels.OUTCOMES, name), number, number / total) for name, number in ordered
    ]
