"""psycopg2 under gevent: waits that yield to other greenlets and end in time.

libpq does not honour its own timeouts in green mode, so every wait has a deadline here. psycopg2
closes a connection whose wait ended by an exception, whichever it was: what PostgreSQL would still
say on it could be taken for the next query's answer. Closing it here would wait for its own lock.
"""

import time
from typing import Any

import psycopg2
import psycopg2.extensions
from gevent.socket import wait_read, wait_write


def install(timeout_seconds: float) -> None:
    """Let every psycopg2 connection of this process wait cooperatively.

    A wait that lasts longer raises psycopg2.OperationalError.
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
