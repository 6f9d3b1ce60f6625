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
from gunicorn.http.unreader import SocketUnreader

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

# Upper bound of one receive of a body. All connections receive into the same buffer: nothing
# else runs before it is copied.
RECEIVE_BYTES = 256 * 1024
_RECEIVED = memoryview(bytearray(RECEIVE_BYTES))


class HeadTimeout(ParseException):  # type: ignore[misc]
    """The client did not finish a request's headers in time."""


class ClientReader(SocketUnreader):  # type: ignore[misc]
    """gunicorn's source of bytes for its parsers, over one connection."""

    def __init__(self, client: socket) -> None:
        super().__init__(client)
        self._is_new = True
        self._in_head = False
        self._head_bytes = 0
        # Of the head, from its first byte; of a body, while the rest of it is discarded.
        self._deadline: float | None = None

    @property
    def buffered_bytes(self) -> int:
        """How many bytes have been received and not yet used."""
        return int(self.buf.tell())

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

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Receive what is there; raises OSError, or a ParseException while reading a head."""
        if self._in_head:
            return self._head_chunk()
        most = self.max_body_chunk
        if self._deadline is not None:
            most = PIECE_BYTES
            wait_read(self.sock.fileno(), min(STALL_SECONDS, _left(self._deadline)))
        else:
            wait_read(self.sock.fileno())
        received: bytes = self.sock.recv(min(max(size_hint or 0, self.mxchunk), most))
        return received

    def receive_onto(self, body: bytearray, size: int) -> int:
        """Append up to `size` bytes to a body: those buffered, otherwise those of one receive.

        Returns their number, 0 at the end of the connection. gunicorn's `read` returns only when it
        has all bytes, and copies what it has received beyond them again and again.
        """
        if self.buffered_bytes:
            buffered = self.take_buffered()
            if len(buffered) > size:
                self.buf.write(buffered[size:])
                buffered = buffered[:size]
            body += buffered
            return len(buffered)
        wait_read(self.sock.fileno())
        received = int(self.sock.recv_into(_RECEIVED, min(size, RECEIVE_BYTES)))
        body += _RECEIVED[:received]
        return received

    def _head_chunk(self) -> bytes:
        if self._is_new:
            # The first request usually arrives with the connection.
            self._is_new = False
        elif self._deadline is None:
            wait_read(self.sock.fileno())
        else:
            try:
                wait_read(self.sock.fileno(), _left(self._deadline))
            except TimeoutError:
                raise HeadTimeout from None
        received: bytes = self.sock.recv(self.mxchunk)
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
