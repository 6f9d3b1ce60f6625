"""PostgreSQL: the pools, and the fast database that the hot path speaks.

Pages and tasks use SQLAlchemy's session. The hot path runs a whole step as one statement in
autocommit, through `fetch_one`: no transaction around it, nothing compiled per call, nothing
that a pooler in transaction mode could not carry.
"""

import logging
from typing import Any

import psycopg2
from flask import Flask

from promptly.errors import ServiceUnavailable
from promptly.runtime.connection_pool import ConnectionPool, PoolExhausted
from promptly.settings import Settings

logger = logging.getLogger(__name__)

Row = tuple[Any, ...]

# Connections of one process; times the processes it must stay below max_connections.
HOT_POOL_SIZE = 12
PAGE_POOL_SIZE = 5


def engine_options(settings: Settings) -> dict[str, Any]:
    """Options of the pages' engine."""
    return {
        "pool_size": PAGE_POOL_SIZE,
        "max_overflow": 5,
        "pool_timeout": settings.database_timeout_seconds,
        "pool_pre_ping": True,
        "connect_args": connect_args(settings),
    }


def connect_args(settings: Settings) -> dict[str, Any]:
    """Options of a connection; the server cuts what the client has given up on."""
    milliseconds = settings.database_timeout_seconds * 1000
    # Compiling a plan takes longer than any page's statement; whoever has many months of events
    # would wait for it, because the plan looks dear before the partitions are known.
    options = f"-c statement_timeout={milliseconds * 12} -c timezone=UTC -c jit=off"
    return {
        "connect_timeout": max(2, settings.database_timeout_seconds),
        "application_name": "promptly",
        "options": options,
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }


class _ConnectionLost(ServiceUnavailable):
    """A kept connection was dead already: PostgreSQL may be there all the same."""


class HotPathDatabase:
    """Single statements in autocommit, over a pool of its own."""

    def __init__(self, settings: Settings) -> None:
        self._pool = ConnectionPool(
            settings.database_url,
            HOT_POOL_SIZE,
            settings.database_timeout_seconds,
            connect_args(settings),
        )

    def fetch_one(self, statement: str, parameters: dict[str, Any]) -> Row | None:
        """The first row of one statement, its own transaction.

        Raises ServiceUnavailable when PostgreSQL cannot be asked in time; whether the statement
        took effect is then unknown, so callers repeat only what may run twice.
        """
        rows = self.fetch_all(statement, parameters)
        return rows[0] if rows else None

    def look_up(self, statement: str, parameters: dict[str, Any]) -> Row | None:
        """As `fetch_one`, for a statement that changes nothing.

        So it may be asked again, and a restart of PostgreSQL between two requests costs no answer.
        """
        try:
            return self.fetch_one(statement, parameters)
        except _ConnectionLost:
            return self.fetch_one(statement, parameters)

    def fetch_all(self, statement: str, parameters: dict[str, Any]) -> list[Row]:
        """All rows of one statement; raises as `fetch_one` does."""
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
            # Cut in the middle of a query: what the connection would say next is unknown.
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
        """Close all connections."""
        self._pool.dispose()


def configure(app: Flask, settings: Settings) -> None:
    """Give the application its fast database; connections are opened when first needed."""
    app.extensions["hot_path_database"] = HotPathDatabase(settings)
