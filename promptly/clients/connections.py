"""Connections to one server: plain sockets that yield to other greenlets only while they wait.

A socket of gevent's costs two watchers, a timer and a turn of the event loop, though most of these
connections never wait except for the answer: see ADR 37. TLS needs gevent's all the same.
"""

import socket
import ssl
import time
from _socket import socket as PlainSocket
from errno import EINPROGRESS
from functools import partial
from typing import Any, NamedTuple

from gevent.socket import wait_write

SEND_TIMEOUT_SECONDS = 60.0
RESOLVE_SECONDS = 30.0
_LARGE_BYTES = 64 * 1024

Address = tuple[Any, ...]
# Both have the methods that matter here; those of a TLS socket wait by themselves.
Socket = PlainSocket | ssl.SSLSocket

CLOSED = PlainSocket()
CLOSED.close()


class Connection(NamedTuple):
    """An open connection, non-blocking but for TLS, and the address that it leads to."""

    socket: Socket
    address: Address


class Connector:
    """Opens connections to a host; `timeout_seconds` limits each attempt."""

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None, timeout_seconds: float
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._found: list[Any] = []
        self._found_at = 0.0

    def addresses(self) -> list[Any]:
        """Return the host's addresses, at most RESOLVE_SECONDS old, as getaddrinfo does.

        Raises OSError. Under gevent each lookup goes through a thread.
        """
        now = time.monotonic()
        if not self._found or now - self._found_at > RESOLVE_SECONDS:
            self._found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._found_at = now
        return self._found

    def connect(self) -> Connection:
        """Connect to the first address that accepts; raises OSError if none does."""
        problem: OSError = OSError("no address")
        for family, kind, protocol, _, address in self.addresses():
            try:
                if self._tls is None:
                    opened = _connect(family, kind, protocol, address, self._timeout_seconds)
                    return Connection(opened, address)
                return Connection(self._secured(family, kind, protocol, address), address)
            except OSError as failure:
                problem = failure
        raise problem

    def _secured(self, family: int, kind: int, protocol: int, address: Address) -> ssl.SSLSocket:
        assert self._tls is not None
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(self._timeout_seconds)
            opened.connect(address)
            return self._tls.wrap_socket(opened, server_hostname=self._host)
        except OSError:
            opened.close()
            raise


def send(opened: Socket, head: bytes, body: bytes | memoryview) -> None:
    """Send a request; a busy server may take SEND_TIMEOUT_SECONDS to read it.

    Raises OSError; by then the server has not received all of it.
    """
    if isinstance(opened, ssl.SSLSocket):
        opened.settimeout(SEND_TIMEOUT_SECONDS)
        send_all = opened.sendall
    else:
        send_all = partial(_send_all, opened)
    if len(body) > _LARGE_BYTES:
        # A second packet costs less than a copy, but would wait for the first to be acknowledged.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send_all(head)
        send_all(body)
    else:
        send_all(head + body)


def _connect(
    family: int, kind: int, protocol: int, address: Address, timeout_seconds: float
) -> PlainSocket:
    opened = PlainSocket(family, kind, protocol)
    try:
        opened.setblocking(False)
        result = opened.connect_ex(address)
        if result == EINPROGRESS and _is_connected(opened):
            result = 0
        elif result == EINPROGRESS:
            wait_write(opened.fileno(), timeout_seconds, TimeoutError("connect"))
            result = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if result:
            raise OSError(result, "connect")
    except BaseException:
        opened.close()
        raise
    return opened


def _is_connected(opened: PlainSocket) -> bool:
    """Return whether a connection is open already, as one to the same machine is at once."""
    try:
        opened.getpeername()
    except OSError:
        return False
    return True


def _send_all(opened: PlainSocket, data: bytes | memoryview) -> None:
    sent = _send_some(opened, data)
    if sent == len(data):
        return
    rest = memoryview(data)[sent:]
    deadline = time.monotonic() + SEND_TIMEOUT_SECONDS
    while rest:
        remaining = max(0.0, deadline - time.monotonic())
        wait_write(opened.fileno(), remaining, TimeoutError("send"))
        rest = rest[_send_some(opened, rest) :]


def _send_some(opened: PlainSocket, data: bytes | memoryview) -> int:
    try:
        return opened.send(data)
    except BlockingIOError:
        return 0
