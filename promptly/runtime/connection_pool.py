"""A small pool of psycopg2 connections in autocommit, for single statements on the hot path.

SQLAlchemy's pool costs about as much as such a statement itself. This one hands out the most
recently used connection, opens new ones up to a limit, and closes those whose query failed midway.
"""

import threading
from typing import Any

import psycopg2
import psycopg2.extensions
from sqlalchemy import make_url

Connection = psycopg2.extensions.connection


class PoolExhausted(Exception):
    """All connections were in use, and none became free in time."""


class ConnectionPool:
    """At most `size` connections, opened on demand."""

    def __init__(
        self, url: str, size: int, timeout_seconds: float, options: dict[str, Any]
    ) -> None:
        arguments = make_url(url).translate_connect_args(username="user", database="dbname")
        self._arguments = {**arguments, **make_url(url).query, **options}
        self._timeout_seconds = timeout_seconds
        self._places = threading.Semaphore(size)
        self._idle: list[Connection] = []

    def take(self) -> Connection:
        """Take a connection for one statement; raises PoolExhausted or psycopg2.Error."""
        if not self._places.acquire(timeout=self._timeout_seconds):
            raise PoolExhausted("no connection came free in time")
        try:
            while self._idle:
                idle = self._idle.pop()
                if not idle.closed:
                    return idle
            connection = self._connect()
            connection.autocommit = True
            return connection
        except BaseException:
            self._places.release()
            raise

    def _connect(self) -> Connection:
        if psycopg2.extensions.get_wait_callback() is None:
            plain: Connection = psycopg2.connect(**self._arguments)
            return plain
        # Only processes under gevent load it.
        from promptly.runtime import psycopg_gevent

        return psycopg_gevent.connect(self._timeout_seconds, **self._arguments)

    def give_back(self, connection: Connection) -> None:
        """Return a reusable connection to the pool."""
        self._idle.append(connection)
        self._places.release()

    def discard(self, connection: Connection) -> None:
        """Close a failed connection and all idle ones, which probably fail too.

        After a restart of PostgreSQL a single failure thus clears the pool.
        """
        connection.close()
        while self._idle:
            self._idle.pop().close()
        self._places.release()

    def dispose(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()
