"""Connections that wait for their client's next request, and the end of those that wait too long.

Their worker looks at them by the second, which is cheaper than a timer for each wait.
"""

import socket as sockets
import time
from contextlib import suppress

from gevent.socket import socket


class IdleConnections:
    """Waiting connections with the time since when, so the longest wait comes first."""

    def __init__(self) -> None:
        self._since: dict[socket, float] = {}

    def add(self, client: socket) -> None:
        """Note that a connection waits for a request from now on."""
        self._since[client] = time.monotonic()

    def remove(self, client: socket) -> None:
        """Note that a request has come, or will never come."""
        del self._since[client]

    def end(self, seconds: float) -> None:
        """End the connections that have waited for at least `seconds`; never blocks.

        To their readers it looks as if the client had closed them. A request that has arrived in
        the meantime is still read.
        """
        latest = time.monotonic() - seconds
        for client, since in self._since.items():
            if since > latest:
                break
            with suppress(OSError):
                # gevent's own `shutdown` would raise an error in the reader instead.
                client._sock.shutdown(sockets.SHUT_RD)  # type: ignore[attr-defined]
