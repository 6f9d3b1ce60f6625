"""Sends each piece of a streamed response by one system call.

gunicorn hands the framed piece to gevent's `sendall`, which first asks the kernel for the size of
its buffer, and cuts the piece to it: half of the CPU time that a chunk of a stream would cost.
"""

from typing import Any

from gunicorn.http import wsgi


class Response(wsgi.Response):  # type: ignore[misc]
    """A response to one request; `write` returns when the kernel has taken all of a piece."""

    sock: Any
    headers_sent: bool
    chunked: bool

    def write(self, arg: bytes) -> None:
        """Send a piece of the body, after the head if it is the first; raises OSError."""
        if self.headers_sent and self.chunked and arg:
            send_all(self.sock, b"%X\r\n%b\r\n" % (len(arg), arg))
        else:
            super().write(arg)


def send_all(client: Any, data: bytes) -> None:
    """Send to a gevent socket without waiting, and what is left as the client reads.

    Raises OSError.
    """
    try:
        # The socket underneath never blocks.
        sent: int = client._sock.send(data)
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        client.sendall(memoryview(data)[sent:])
