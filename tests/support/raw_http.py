"""Requests as bytes over a socket, for what no HTTP client would send."""

import socket
from types import TracebackType
from typing import Self

# Guards against hanging; no test expects to wait for it.
TIMEOUT_SECONDS = 30.0


class RawClient:
    """One connection to a gateway on 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send everything; raises OSError if the connection is closed."""
        self._socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response with a Content-Length: status, headers by lower-case name, body.

        Raises OSError if the connection is reset, ValueError if it ends before the response.
        """
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", 0))
        while len(self._received) < length:
            self._receive()
        body, self._received = self._received[:length], self._received[length:]
        return int(first.split()[1]), headers, body

    def rest(self) -> bytes:
        """Read until the server closes the connection; raises OSError if it resets it."""
        while received := self._socket.recv(65_536):
            self._received += received
        return self._received

    def _receive(self) -> None:
        received = self._socket.recv(65_536)
        if not received:
            raise ValueError(f"the connection ended after {self._received!r}")
        self._received += received


def ask(port: int, request: bytes) -> bytes:
    """Send a request on a new connection and return all that comes back until it is closed."""
    with RawClient(port) as client:
        client.send(request)
        return client.rest()
