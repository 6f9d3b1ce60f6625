"""Hangs up on clients that stop reading, wherever the gateway is writing to them.

The kernel does it: it covers pages, exports, errors and streams alike, also what is still to be
sent after the gateway has closed the connection, and costs nothing per write. Any progress starts
the time again. The writer gets a TimeoutError.
"""

import socket

# Only Linux has it; elsewhere such writes end with their request's other time limits.
_OPTION = getattr(socket, "TCP_USER_TIMEOUT", None)


def limit_sends(listener: socket.socket, seconds: int) -> None:
    """Set the limit for all connections that this listener will accept."""
    if _OPTION is not None and listener.family in (socket.AF_INET, socket.AF_INET6):
        listener.setsockopt(socket.IPPROTO_TCP, _OPTION, seconds * 1000)
