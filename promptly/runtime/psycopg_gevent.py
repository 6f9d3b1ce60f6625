"""psycopg2 under gevent: waits that yield to other greenlets, each with a deadline.

libpq ignores its own timeouts in green mode, so every wait gets a deadline here. psycopg2 closes a
connection whose wait raised any exception, because a late answer of PostgreSQL could be taken for
that of the next query. Closing it here would deadlock on the connection's own lock.
"""

import time
from typing import Any

import psycopg2
import psycopg2.extensions
from gevent.socket import wait_read, wait_write


def install(timeout_seconds: float) -> None:
    """Make every psycopg2 connection of this process wait cooperatively.

    A wait longer than `timeout_seconds` raises psycopg2.OperationalError.
    """

    def wait(connection: Any) -> None:
        deadline = time.monotonic() + timeout_seconds
        try:
            while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError
                if state == psycopg2.extensions.POLL_READ:
                    wait_read(connection.fileno(), timeout=remaining)
                elif state == psycopg2.extensions.POLL_WRITE:
                    wait_write(connection.fileno(), timeout=remaining)
        except TimeoutError as problem:
            raise psycopg2.OperationalError("PostgreSQL did not answer in time") from problem

    psycopg2.extensions.set_wait_callback(wait)
