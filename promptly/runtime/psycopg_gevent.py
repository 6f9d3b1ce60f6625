"""psycopg2 under gevent: waits that yield to other greenlets, each with a deadline.

libpq ignores its own timeouts in green mode, so every wait gets a deadline here. psycopg2 closes a
connection whose wait raised any exception, because a late answer of PostgreSQL could be taken for
that of the next query. Closing it here would deadlock on the connection's own lock.
"""

import time
from typing import Any

import psycopg2
from gevent.socket import wait_read, wait_write
from psycopg2 import extensions

from promptly.runtime.readiness import Readiness


class RegisteredConnection(extensions.connection):
    """A connection whose socket stays registered with the event loop from one wait to the next."""

    readiness: Readiness | None = None

    def register(self, timeout_seconds: float) -> None:
        """Register the socket; not before it is connected, because libpq may try several."""
        self.readiness = Readiness(self.fileno())
        self.readiness.wait_at_most(timeout_seconds)

    def forget(self) -> None:
        """Undo `register`, before the socket is closed."""
        if self.readiness is not None:
            self.readiness.close()
            self.readiness = None

    def close(self) -> None:
        self.forget()
        super().close()


def connect(timeout_seconds: float, **arguments: Any) -> RegisteredConnection:
    """Connect as `psycopg2.connect` does; waits of the connection take at most that long."""
    connection: RegisteredConnection = psycopg2.connect(
        connection_factory=RegisteredConnection, **arguments
    )
    connection.register(timeout_seconds)
    return connection


def install(timeout_seconds: float) -> None:
    """Make every psycopg2 connection of this process wait cooperatively.

    A wait longer than `timeout_seconds` raises psycopg2.OperationalError.
    """

    def wait(connection: Any) -> None:
        if isinstance(connection, RegisteredConnection) and connection.readiness is not None:
            _wait_registered(connection, connection.readiness)
        else:
            _wait(connection, timeout_seconds)

    extensions.set_wait_callback(wait)


def _wait_registered(connection: RegisteredConnection, readiness: Readiness) -> None:
    try:
        while (state := connection.poll()) != extensions.POLL_OK:
            if state == extensions.POLL_WRITE:
                wait_write(connection.fileno(), timeout=readiness.seconds)
            elif not readiness.wait():
                raise TimeoutError
    except BaseException as problem:
        # psycopg2 closes the socket as soon as this has raised.
        connection.forget()
        if isinstance(problem, TimeoutError):
            raise _late() from problem
        raise


def _wait(connection: Any, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    try:
        while (state := connection.poll()) != extensions.POLL_OK:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            if state == extensions.POLL_READ:
                wait_read(connection.fileno(), timeout=remaining)
            elif state == extensions.POLL_WRITE:
                wait_write(connection.fileno(), timeout=remaining)
    except TimeoutError as problem:
        raise _late() from problem


def _late() -> psycopg2.OperationalError:
    return psycopg2.OperationalError("PostgreSQL did not answer in time")
