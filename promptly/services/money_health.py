"""Money's health for /metrics: what is open or waits in PostgreSQL, read at most every 15 seconds.

It has a connection of its own for each reading, so that neither pages nor these figures wait for
the other.
"""

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

import psycopg2
from prometheus_client.core import GaugeMetricFamily, Metric

from promptly.models.states import EventState, OrderState
from promptly.runtime.connection_pool import Connection, ConnectionPool, PoolExhausted
from promptly.runtime.database import connect_args
from promptly.settings import Settings

logger = logging.getLogger(__name__)

KEPT_SECONDS = 15.0
# Together well below the ten seconds that a scrape may take.
STATEMENT_SECONDS = 2

# One figure per column. Each reads rows that are open or wait, by an index that has no others.
_FIGURES = """
SELECT h.number AS promptly_holds_open,
       coalesce(extract(epoch FROM now() - h.oldest_at), 0)
           AS promptly_holds_oldest_age_seconds,
       (SELECT coalesce(sum(uncharged_tokens), 0) FROM daily_totals) AS promptly_uncharged_tokens,
       v.differences AS promptly_ledger_differences,
       extract(epoch FROM v.finished_at) AS promptly_ledger_verified_timestamp_seconds,
       m.number AS promptly_outbox_waiting,
       coalesce(extract(epoch FROM now() - m.oldest_at), 0)
           AS promptly_outbox_oldest_age_seconds,
       (SELECT count(*) FROM outbox WHERE state = 'failed') AS promptly_outbox_failed,
       (SELECT count(*) FROM payment_cases WHERE resolution IS NULL) AS promptly_cases_open,
       (SELECT count(*) FROM payment_reversals WHERE state IN ('offered', 'claimed') AND active)
           AS promptly_refunds_unpaid,
       pg_database_size(current_database()) AS promptly_database_size_bytes,
       (SELECT extract(epoch FROM last_run_at) FROM sweep_states WHERE name = 'backup')
           AS promptly_backup_timestamp_seconds
FROM (SELECT count(*) AS number, min(created_at) AS oldest_at FROM holds WHERE state = 'open') AS h,
     (SELECT count(*) AS number, min(created_at) AS oldest_at
      FROM outbox WHERE state = 'pending') AS m
LEFT JOIN (SELECT differences, finished_at FROM ledger_verifications
           WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1) AS v ON true
"""

# These count all rows there are, on an index alone: the price of a million is a tenth of a second.
_STATES = """
SELECT 'promptly_webhook_events', state, count(*) FROM webhook_events GROUP BY state
UNION ALL
SELECT 'promptly_orders', state, count(*) FROM orders GROUP BY state
"""

TEXTS = {
    "promptly_holds_open": "Open holds: requests that run or wait.",
    "promptly_holds_oldest_age_seconds": "Age of the oldest open hold; 0 if there is none.",
    "promptly_uncharged_tokens": (
        "Tokens that no balance covered, since the beginning, as of the last roll-up."
    ),
    "promptly_ledger_differences": "Differences that the last verification of the ledger found.",
    "promptly_ledger_verified_timestamp_seconds": "End of the last verification of the ledger.",
    "promptly_outbox_waiting": "Emails that wait to be sent.",
    "promptly_outbox_oldest_age_seconds": "Age of the oldest of them; 0 if there is none.",
    "promptly_outbox_failed": "Emails that were given up.",
    "promptly_cases_open": "Payments that need an operator's decision.",
    "promptly_refunds_unpaid": "Bitcoin refunds that are not claimed or not paid out yet.",
    "promptly_database_size_bytes": "Size of the database on disk.",
    "promptly_backup_timestamp_seconds": "Start of the newest backup that was recorded.",
}
STATES: dict[str, tuple[str, Iterable[str]]] = {
    "promptly_webhook_events": ("Stored webhook events, by state.", EventState),
    "promptly_orders": ("Orders, by state.", OrderState),
}


class MoneyHealth:
    """The figures, kept for KEPT_SECONDS; one thread reads them, others wait for it."""

    def __init__(self, settings: Settings) -> None:
        self._pool = ConnectionPool(
            settings.database_url, 1, settings.database_timeout_seconds, connect_args(settings)
        )
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._kept: list[Metric] = []

    def collect(self) -> list[Metric]:
        """Return the figures and `promptly_postgres_up`, alone if PostgreSQL is away.

        Of two statements each that takes longer than STATEMENT_SECONDS leaves its figures out.
        """
        with self._lock:
            if time.monotonic() - self._read_at >= KEPT_SECONDS:
                self._kept = self._read()
                self._read_at = time.monotonic()
            return self._kept

    def _read(self) -> list[Metric]:
        try:
            connection = self._pool.take()
        except (psycopg2.Error, PoolExhausted) as problem:
            return [_up(problem)]
        found: list[Metric] = []
        failed: psycopg2.Error | None = None
        try:
            for read in (_figures, _states):
                try:
                    found += read(connection)
                except psycopg2.Error as problem:
                    failed = problem
        finally:
            self._pool.discard(connection)
        return [*found, _up(failed)]


def _figures(connection: Connection) -> list[Metric]:
    ((*values,),), names = _rows(connection, _FIGURES)
    return [
        GaugeMetricFamily(name, TEXTS[name], float(value))
        for name, value in zip(names, values, strict=True)
        if value is not None
    ]


def _states(connection: Connection) -> list[Metric]:
    rows, _ = _rows(connection, _STATES)
    found = {(name, state): number for name, state, number in rows}
    families: list[Metric] = []
    for name, (description, states) in STATES.items():
        family = GaugeMetricFamily(name, description, labels=["state"])
        for state in states:
            family.add_metric([str(state)], found.get((name, str(state)), 0))
        families.append(family)
    return families


def _rows(connection: Connection, statement: str) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Return the rows and the names of the columns, in a transaction of its own."""
    with connection.cursor() as cursor:
        # Ends the transaction of a statement that failed before this one.
        cursor.execute("ROLLBACK")
        cursor.execute("BEGIN READ ONLY")
        # Here and not for the session: a pooler gives each transaction any of its connections.
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        cursor.execute(statement)
        rows, names = cursor.fetchall(), [column.name for column in cursor.description or ()]
        cursor.execute("COMMIT")
    return rows, names


def _up(problem: Exception | None) -> Metric:
    if problem is not None:
        logger.warning(
            "PostgreSQL's figures are incomplete", extra={"reason": type(problem).__name__}
        )
    # With an SQLSTATE, the server has answered.
    up = problem is None or bool(getattr(problem, "pgcode", None))
    return GaugeMetricFamily(
        "promptly_postgres_up", "Whether PostgreSQL answered the last reading.", float(up)
    )
