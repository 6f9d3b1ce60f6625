"""gunicorn's response with a cheaper head, which leaves together with the first piece of the body.

gunicorn checks the names of the same few headers for each response, formats the date of each, and
sends the head by itself.
"""

import time
from collections.abc import Iterable
from functools import lru_cache

from gevent.socket import socket
from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName
from gunicorn.http.message import TOKEN_RE

# A larger piece is not copied to follow the head.
JOINED_BYTES = 64 * 1024


class Response(wsgi.Response):  # type: ignore[misc]
    """A response to one request; `write` sends at once."""

    sock: socket
    headers_sent: bool
    chunked: bool
    _unsent = b""

    def process_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Take the application's headers, except those that belong to the connection.

        Raises InvalidResponseHeaderName and InvalidResponseHeader, of which neither quotes a value.
        """
        for name, value in headers:
            lower = _lower(name)
            if not wsgi.HEADER_VALUE_RE.fullmatch(value):
                raise InvalidResponseHeader(repr(name))
            if lower in util.hop_headers:
                continue
            if lower == "content-length":
                self.response_length = int(value)
            self.headers.append((name, value))

    def send_headers(self) -> None:
        """Let the head go out with the piece that `write` is about to send."""
        if not self.headers_sent:
            self._unsent = self._head()
            self.headers_sent = True

    def write(self, arg: bytes) -> None:
        if self.headers_sent and self.chunked and arg:
            # A chunk of a stream: nothing is left to decide.
            send_all(self.sock, b"%X\r\n%b\r\n" % (len(arg), arg))
            return
        super().write(arg)
        # An empty piece sends the head alone: its status and headers are not to wait for the body.
        self._send(b"")

    def close(self) -> None:
        """Send the head if there is no body, or the end of a body whose length was not known."""
        self.send_headers()
        self._send(b"0\r\n\r\n" if self.chunked else b"")

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def _send(self, data: bytes) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            if len(data) > JOINED_BYTES:
                send_all(self.sock, unsent)
            else:
                data = unsent + data
        if data:
            send_all(self.sock, data)

    def _head(self) -> bytes:
        major, minor = self.req.version
        connection = "close" if self.should_close() else "keep-alive"
        coding = "Transfer-Encoding: chunked\r\n" if self.chunked else ""
        fields = "".join([f"{name}: {value}\r\n" for name, value in self.headers])
        return (
            f"HTTP/{major}.{minor} {self.status}\r\nServer: {self.version}\r\n"
            f"Date: {_date(int(time.time()))}\r\nConnection: {connection}\r\n{coding}{fields}\r\n"
        ).encode("latin-1")


@lru_cache(maxsize=256)
def _lower(name: str) -> str:
    if not TOKEN_RE.fullmatch(name):
        raise InvalidResponseHeaderName(repr(name))
    return name.lower()


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return str(util.http_date(second))


def send_all(client: socket, data: bytes) -> None:
    """Send without waiting, and what is left as the client reads; raises OSError.

    gevent's `sendall` first asks the kernel for the size of its buffer, and cuts the data to it.
    """
    try:
        # The socket underneath never blocks.
        sent: int = client._sock.send(data)  # type: ignore[attr-defined]
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        client.sendall(memoryview(data)[sent:])
