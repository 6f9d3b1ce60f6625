"""Times of pages on a database filled by `bench.seed`: `python -m bench.pages --help`.

Each page is requested through the whole application, in this process: no network, no gunicorn. A
page fails if its median exceeds 50 ms, if one of its statements exceeds 100 ms, or if PostgreSQL
would read a whole partition of usage events for it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from bench import seed_sql
from bench.seed import settings_for
from bench.statements import Statement, explain, scanned_whole, watched
from promptly.app import create_app
from promptly.clock import utcnow
from promptly.extensions import db
from promptly.runtime.database import API
from promptly.services.accounts import keys
from promptly.services.accounts.directory import Place
from promptly.settings import Settings
from promptly.transactions import transaction
from sandbox.redis_server import EmbeddedRedis

PAGE_SECONDS = 0.050
STATEMENT_SECONDS = 0.100
ROWS_A_PAGE = 50
HEAVY_USER = 1

_TODAY = utcnow().date()
_RANGE = f"start={_TODAY - timedelta(days=seed_sql.DAYS - 1)}&end={_TODAY}"


@dataclass(frozen=True)
class Page:
    """A page to request: as the operator, or as the heaviest user signed in or with a key."""

    name: str
    path: str
    who: Literal["operator", "user", "key"] = "operator"


@dataclass
class Result:
    """A page's measurements: its times, its statements by text, partitions that are read whole."""

    page: Page
    seconds: list[float] = field(default_factory=list)
    statements: dict[str, list[float]] = field(default_factory=dict)
    scans: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.95) - 1]

    @property
    def slowest(self) -> tuple[float, str]:
        """The largest median of a statement, in seconds, and the statement."""
        medians = [(statistics.median(times), head) for head, times in self.statements.items()]
        return max(medians, default=(0.0, "none"))

    @property
    def problems(self) -> list[str]:
        """The reasons why this page fails; empty if it passes."""
        found = []
        if self.median > PAGE_SECONDS:
            found.append(f"median over {PAGE_SECONDS * 1000:.0f} ms")
        if self.slowest[0] > STATEMENT_SECONDS:
            found.append(f"a statement over {STATEMENT_SECONDS * 1000:.0f} ms")
        return found + [f"reads all of {name}" for name in self.scans]


def pages() -> list[Page]:
    """Return every page whose cost could grow with the number of accounts, events or purchases."""
    purchase = _scalar("SELECT number FROM orders WHERE user_id = 1 ORDER BY id DESC LIMIT 1")
    found = [
        Page("dashboard", "/dashboard", who="user"),
        Page("dashboard, all requests", "/dashboard/requests", who="user"),
        Page("dashboard, purchases", "/purchases", who="user"),
        Page("usage by key and model", f"/v1/usage?{_RANGE}&group_by=key,model", who="key"),
        Page("overview", "/admin"),
        Page("users", "/admin/users"),
    ]
    for sort in ("joined", "email", "balance", "usage"):
        for direction in ("asc", "desc"):
            path = f"/admin/users?sort={sort}&dir={direction}"
            found.append(Page(f"users by {sort}, {direction}", path))
    return [
        *found,
        Page("users, page 500", f"/admin/users?after={_page_500()}"),
        Page("users, search many", "/admin/users?q=example.com"),
        Page("users, search one", "/admin/users?q=lab4242"),
        Page("users, search none", "/admin/users?q=nobody%40nowhere"),
        Page("a heavy user", f"/admin/users/{HEAVY_USER}"),
        Page("a heavy user's ledger", f"/admin/users/{HEAVY_USER}/ledger"),
        Page("purchases", "/admin/purchases"),
        Page("purchases, page 500", f"/admin/purchases?before={_middle('orders')}"),
        Page("purchases, search", "/admin/purchases?q=lab42"),
        Page("purchases, in a state", "/admin/purchases?state=refunded&provider=stripe"),
        Page("purchases that owe", "/admin/purchases?owed=1"),
        Page("a purchase", f"/admin/purchases/{purchase}"),
        Page("cases", "/admin/cases"),
        Page("reconciliations", "/admin/reconciliations"),
        Page("webhook events", "/admin/webhooks"),
        Page("webhook events, parked", "/admin/webhooks?state=parked&provider=btcpay"),
        Page("webhook events, page 500", f"/admin/webhooks?before={_middle('webhook_events')}"),
        Page("mails", "/admin/outbox"),
        Page("mails, failed", "/admin/outbox?state=failed"),
        Page("mails of a kind", "/admin/outbox?kind=receipt"),
        Page("mails, page 500", f"/admin/outbox?before={_middle('outbox')}"),
        Page("holds", "/admin/holds"),
        Page("audit log", "/admin/audit"),
        Page("audit log of one account", "/admin/audit?user_id=38"),
    ]


def measure(app: Flask, wanted: Iterable[Page], rounds: int) -> list[Result]:
    """Request each page `rounds` times after one uncounted request; explain its statements."""
    clients = _clients(app)
    results = []
    for page in wanted:
        engine = db.engines[API] if page.who == "key" else db.engine
        client = clients[page.who]
        result = Result(page)
        last: list[Statement] = []
        for number in range(rounds + 1):
            with watched(engine) as seen:
                began = time.perf_counter()
                status = client.get(page.path).status_code
                seconds = time.perf_counter() - began
            if status != 200:
                raise RuntimeError(f"{page.path} was answered {status}")
            if number:
                _count(result, seconds, seen)
            last = seen
        read = (scanned_whole(engine, explain(engine, statement)) for statement in last)
        result.scans = sorted({name for names in read for name in names})
        results.append(result)
    return results


def report(results: list[Result]) -> list[str]:
    """Return the lines of the table."""
    lines = [f"{'page':<28}{'median':>8}{'p95':>8}{'SQL':>5}{'slowest':>9}   statement"]
    for result in results:
        seconds, head = result.slowest
        lines.append(
            f"{result.page.name:<28}{result.median * 1000:>8.1f}{result.p95 * 1000:>8.1f}"
            f"{len(result.statements):>5}{seconds * 1000:>9.1f}   {head[:70]}"
        )
        lines += [f"    FAILED: {problem}" for problem in result.problems]
    return lines


def _count(result: Result, seconds: float, seen: list[Statement]) -> None:
    result.seconds.append(seconds)
    for statement in seen:
        result.statements.setdefault(statement.head, []).append(statement.seconds)


def _clients(app: Flask) -> dict[str, FlaskClient]:
    """Return a client for each value of `Page.who`."""
    settings: Settings = app.extensions["settings"]
    with transaction():
        _, raw = keys.create(HEAVY_USER, "bench", settings.key_pepper)
    operator, user, with_key = (app.test_client() for _ in range(3))
    for client, path, key in (
        (operator, "/admin/session", settings.admin_key.reveal()),
        (user, "/session", raw),
    ):
        if client.post(path, data={"key": key}).status_code != 303:
            raise RuntimeError(f"no sign-in at {path}")
    with_key.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {raw}"
    return {"operator": operator, "user": user, "key": with_key}


def _page_500() -> Place:
    skipped = ROWS_A_PAGE * 499 - 1
    row = db.session.execute(
        text(
            "SELECT created_at, id FROM users ORDER BY created_at DESC, id DESC OFFSET :n LIMIT 1"
        ),
        {"n": min(skipped, int(_scalar("SELECT count(*) / 2 FROM users")))},
    ).one()
    return Place(row[0], row[1])


def _middle(table: str) -> str:
    return _scalar(f"SELECT max(id) / 2 + 25 FROM {table}")


def _scalar(statement: str) -> str:
    return str(db.session.scalar(text(statement)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="pages whose name contains this")
    parser.add_argument(
        "database_url",
        nargs="?",
        default=os.environ.get("DATABASE_URL"),
        help="a database that bench.seed has filled; or DATABASE_URL",
    )
    options = parser.parse_args()
    if not options.database_url:
        parser.error("name the database, or set DATABASE_URL")
    with tempfile.TemporaryDirectory() as directory:
        redis = EmbeddedRedis(Path(directory) / "redis")
        redis.start()
        try:
            app = create_app(settings_for(options.database_url, redis.url))
            with app.app_context():
                wanted = [page for page in pages() if options.only in page.name]
                results = measure(app, wanted, options.rounds)
        finally:
            redis.stop()
    print("\n".join(report(results)))
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores:
        print(f"DISTURBED: a load of {load:.1f} on {cores} cores; something else runs here.")
    sys.exit(any(result.problems for result in results))


if __name__ == "__main__":
    main()
