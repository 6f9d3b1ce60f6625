"""PostgreSQL: connection options, pools, and the hot path's database access.

Pages and tasks use SQLAlchemy's session, which takes its connection from one of three pools:
pages must not use up those of payment webhooks and of /v1. The hot path runs each whole step as
one statement in autocommit, through `fetch_one`: no surrounding transaction, nothing compiled per
call. Nothing relies on a session (ADR 29): behind a pooler in transaction mode each transaction may
get another one, and a session's settings are the role's.
"""

import logging
import os
from typing import Any

import psycopg2
from flask import Flask

from promptly.errors import ServiceUnavailable
from promptly.runtime.connection_pool import ConnectionPool, PoolExhausted
from promptly.settings import Settings

logger = logging.getLogger(__name__)

Row = tuple[Any, ...]

WEBHOOKS = "webhooks"
API = "api"

# Connections of one process; for all processes together they must stay below max_connections.
HOT_POOL_SIZE = 12
PAGE_POOL_SIZE = 6
# Pools of their own: payment webhooks, and what /v1 does with SQLAlchemy (GET /v1/balance and
# /v1/usage, late settlements).
RESERVED_POOL_SIZES = {WEBHOOKS: 2, API: 2}
POOL_SIZE_IN_ALL = HOT_POOL_SIZE + PAGE_POOL_SIZE + sum(RESERVED_POOL_SIZES.values())

# Pages show times as PostgreSQL returns them. libpq sends this variable as a startup parameter of
# its own, which poolers pass on, unlike `options`.
os.environ["PGTZ"] = "UTC"

# Seconds that a client or server may leave sent data unacknowledged or probes unanswered.
SILENCE_SECONDS = 45

# Seconds that a transaction may wait for its own process, relative to DATABASE_TIMEOUT_SECONDS.
IDLE_FACTOR = 6


def flask_configuration(settings: Settings) -> dict[str, Any]:
    """Return Flask-SQLAlchemy's configuration: the pages' pool, and the reserved ones by name."""
    reserved = {
        name: {"url": settings.database_url, **engine_options(settings, size)}
        for name, size in RESERVED_POOL_SIZES.items()
    }
    return {
        "SQLALCHEMY_DATABASE_URI": settings.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine_options(settings, PAGE_POOL_SIZE),
        "SQLALCHEMY_BINDS": reserved,
    }


def engine_options(settings: Settings, pool_size: int) -> dict[str, Any]:
    """Return options of an engine of SQLAlchemy with up to `pool_size` connections."""
    return {
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": settings.database_timeout_seconds,
        "pool_pre_ping": True,
        "connect_args": connect_args(settings),
    }


def connect_args(settings: Settings) -> dict[str, Any]:
    """Return options of a connection.

    The server ends statements that a client has given up, and sessions whose open transaction,
    with its locks, waits for its client.
    """
    options = " ".join(f"-c {name}={value}" for name, value in session_settings(settings).items())
    return {
        "connect_timeout": max(2, settings.database_timeout_seconds),
        "application_name": "promptly",
        "options": options,
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        # Without it, a process outside gevent whose statement was not acknowledged, because the
        # network was cut, would wait for a quarter of an hour.
        "tcp_user_timeout": SILENCE_SECONDS * 1000,
    }


def session_settings(settings: Settings) -> dict[str, str]:
    """Return PostgreSQL's settings for each session, by name; times are in milliseconds.

    Poolers drop them (`flask doctor` checks it); operators then set them on the role.
    """
    milliseconds = settings.database_timeout_seconds * 1000
    return {
        "statement_timeout": str(milliseconds * 12),
        "idle_in_transaction_session_timeout": str(milliseconds * IDLE_FACTOR),
        # Compiling takes longer than any page's statement, and accounts with many months of events
        # would trigger it, because the plan looks expensive until partitions are pruned.
        "jit": "off",
    }


class _ConnectionLost(ServiceUnavailable):
    """A pooled connection was already dead; PostgreSQL itself may be available."""


class HotPathDatabase:
    """Single statements in autocommit, over its own connection pool."""

    def __init__(self, settings: Settings) -> None:
        self._pool = ConnectionPool(
            settings.database_url,
            HOT_POOL_SIZE,
            settings.database_timeout_seconds,
            connect_args(settings),
        )

    def fetch_one(self, statement: str, parameters: dict[str, Any]) -> Row | None:
        """Return the first row of one statement, which is its own transaction.

        Raises ServiceUnavailable if PostgreSQL does not answer in time; whether the statement took
        effect is then unknown, so callers retry only idempotent ones.
        """
        rows = self.fetch_all(statement, parameters)
        return rows[0] if rows else None

    def look_up(self, statement: str, parameters: dict[str, Any]) -> Row | None:
        """Like `fetch_one`, for a read-only statement, which is retried on a dead connection.

        A restart of PostgreSQL between two requests thus fails neither.
        """
        try:
            return self.fetch_one(statement, parameters)
        except _ConnectionLost:
            return self.fetch_one(statement, parameters)

    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[Row]:
        """Return all rows of one statement; raises like `fetch_one`."""
        try:
            connection = self._pool.take()
        except (psycopg2.Error, PoolExhausted) as problem:
            raise self._away(problem) from problem
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                rows = cursor.fetchall()
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as problem:
            lost = connection.closed and not isinstance(problem.__cause__, TimeoutError)
            self._pool.discard(connection)
            raise self._away(problem, _ConnectionLost if lost else ServiceUnavailable) from problem
        except psycopg2.Error:
            self._pool.give_back(connection)
            raise
        except BaseException:
            # Interrupted mid-query: the connection could still return this query's answer.
            self._pool.discard(connection)
            raise
        self._pool.give_back(connection)
        return rows

    @staticmethod
    def _away(
        problem: Exception, error: type[ServiceUnavailable] = ServiceUnavailable
    ) -> ServiceUnavailable:
        logger.warning(
            "PostgreSQL does not answer", extra={"reason": str(problem).partition("\n")[0][:200]}
        )
        return error()

    def dispose(self) -> None:
        """Close all idle connections."""
        self._pool.dispose()


def configure(app: Flask, settings: Settings) -> None:
    """Add the hot path's database to the application; connections open on demand."""
    app.extensions["hot_path_database"] = HotPathDatabase(settings)
