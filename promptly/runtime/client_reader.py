"""Reading from a client's connection: bounded heads, bodies that yield, and what nobody needs.

gevent's `recv` returns at once while data is there, so a client that sends without a pause would
keep its worker from everybody else. Every read here except a connection's first waits for the
event loop, which serves all other connections before it comes back.
"""

import fcntl
import socket as sockets
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gevent.socket import socket, wait_read
from gunicorn.http.errors import LimitRequestHeaders, ParseException

from promptly.runtime.readiness import Readiness

# A request's line and headers: what is sent of them in total, and the time from their first byte.
HEAD_BYTES = 128 * 1024
HEAD_SECONDS = 20.0

# The rest of a body that was refused. Within these bounds the client gets the refusal; beyond them
# the connection is closed, which may reset it (RFC 9112, section 9.6).
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_SECONDS = 10.0
STALL_SECONDS = 2.0
PIECE_BYTES = 64 * 1024

_INT = struct.Struct("i")

# Overwritten by every connection; its content is never looked at.
_DROPPED = bytearray(PIECE_BYTES)

# Upper bounds of one receive: of a head or a small piece of a body, and of a large piece.
USUAL_BYTES = 8 * 1024
MOST_BYTES = 1024 * 1024

# Upper bound of one receive of a body of known length. All connections receive into the same
# buffer: nothing else runs before it is copied.
RECEIVE_BYTES = 256 * 1024
_RECEIVED = memoryview(bytearray(RECEIVE_BYTES))


class HeadTimeout(ParseException):  # type: ignore[misc]
    """The client did not finish a request's headers in time."""


class ClientReader:
    """The source of bytes for gunicorn's parsers, which it calls an unreader: one connection."""

    def __init__(self, client: socket) -> None:
        self.sock = client
        self._readiness = Readiness(client.fileno())
        # Received, but not used yet.
        self._buffered = b""
        self._is_new = True
        self._in_head = False
        self._head_bytes = 0
        # Of the head, from its first byte; of a body, while the rest of it is discarded.
        self._deadline: float | None = None

    def close(self) -> None:
        """Stop watching the socket, which is left open."""
        self._readiness.close()

    @property
    def buffered_bytes(self) -> int:
        """How many bytes have been received and not yet used."""
        return len(self._buffered)

    def has_received(self, size: int) -> bool:
        """Whether that many bytes are here, or wait in the kernel."""
        missing = size - self.buffered_bytes
        return missing <= 0 or _waiting_bytes(self.sock) >= missing

    def start_head(self) -> None:
        """Read a request's head from here on."""
        self._in_head = True
        self._head_bytes = 0
        self._deadline = time.monotonic() + HEAD_SECONDS if self.buffered_bytes else None

    def end_head(self) -> None:
        """Read a request's body from here on."""
        self._in_head = False
        self._deadline = None

    @contextmanager
    def discarding(self) -> Iterator[None]:
        """Read within the limits for what is thrown away; reads raise TimeoutError beyond them."""
        self._deadline = time.monotonic() + DISCARD_SECONDS
        try:
            yield
        finally:
            self._deadline = None

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes:
        """Return `size` bytes, fewer only at the end of the connection; without it, any number.

        `read_ahead` is how many bytes may be received at once. Raises OSError, or a ParseException
        while reading a head.
        """
        if size is None:
            data, self._buffered = self._buffered, b""
            return data or self._receive(read_ahead or 0)
        most = max(size, read_ahead or 0)
        whole = bytearray(self._buffered)
        while len(whole) < size and (received := self._receive(most - len(whole))):
            whole += received
        self._buffered = bytes(whole[size:])
        return bytes(whole[:size])

    def unread(self, data: bytes) -> None:
        """Return bytes that the next read is to begin with."""
        self._buffered = data + self._buffered

    def _receive(self, most: int) -> bytes:
        if self._in_head:
            return self._receive_head()
        if self._deadline is None:
            self._readiness.wait()
            most = min(max(most, USUAL_BYTES), MOST_BYTES)
        else:
            wait_read(self.sock.fileno(), min(STALL_SECONDS, _left(self._deadline)))
            most = PIECE_BYTES
        received: bytes = self.sock.recv(most)
        return received

    def receive_onto(self, body: bytearray, size: int) -> int:
        """Append up to `size` bytes to a body: those buffered, otherwise those of one receive.

        Returns their number, 0 at the end of the connection. `read` returns only when it has all
        bytes, and copies those beyond them.
        """
        if self._buffered:
            buffered, self._buffered = self._buffered[:size], self._buffered[size:]
            body += buffered
            return len(buffered)
        self._readiness.wait()
        received = int(self.sock.recv_into(_RECEIVED, min(size, RECEIVE_BYTES)))
        body += _RECEIVED[:received]
        return received

    def _receive_head(self) -> bytes:
        if self._is_new:
            # The first request usually arrives with the connection.
            self._is_new = False
        elif self._deadline is None:
            self._readiness.wait()
        else:
            try:
                wait_read(self.sock.fileno(), _left(self._deadline))
            except TimeoutError:
                raise HeadTimeout from None
        received: bytes = self.sock.recv(USUAL_BYTES)
        self._head_bytes += len(received)
        if self._head_bytes > HEAD_BYTES:
            raise LimitRequestHeaders("the headers are too large")
        if self._deadline is None:
            self._deadline = time.monotonic() + HEAD_SECONDS
        return received


def _waiting_bytes(client: socket) -> int:
    [size] = _INT.unpack(fcntl.ioctl(client.fileno(), termios.FIONREAD, bytes(_INT.size)))
    return int(size)


def linger(client: socket) -> None:
    """Finish sending, then drop what the client still sends until it closes, within the limits.

    A connection closed with unread data is reset, and the client may lose the response.
    """
    deadline = time.monotonic() + DISCARD_SECONDS
    remaining = DISCARD_BYTES
    with suppress(OSError):
        client.shutdown(sockets.SHUT_WR)
        while remaining > 0:
            wait_read(client.fileno(), min(STALL_SECONDS, _left(deadline)))
            received = client.recv_into(_DROPPED, PIECE_BYTES)
            if not received:
                return
            remaining -= received


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
