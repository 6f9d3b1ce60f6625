"""Responses as they arrive: status line, headers, framing."""

import socket as sockets
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import socket
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName

from promptly.runtime import response as responses
from promptly.runtime.response import JOINED_BYTES, Response, send_all

Headers = list[tuple[str, str]]
Pair = tuple[socket.socket, socket.socket]


class Exchange:
    """A response to one request, and the socket on which its client receives it."""

    def __init__(self, method: str = "GET", version: tuple[int, int] = (1, 1)) -> None:
        self.client, self.server = socket.socketpair()
        self.client.settimeout(10)
        request: Any = SimpleNamespace(method=method, version=version, should_close=lambda: False)
        self.response = Response(request, self.server, SimpleNamespace())

    def start(self, status: str = "200 OK", headers: Headers | None = None) -> None:
        self.response.start_response(status, headers or [])

    def received(self) -> bytes:
        """Return what has arrived by now, in one receive."""
        return self.client.recv(1 << 20)

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    monkeypatch.setattr(responses, "time", SimpleNamespace(time=lambda: 1_800_000_000.9))
    exchange = Exchange()
    yield exchange
    exchange.close()


def test_the_head_leaves_with_the_first_piece(exchange: Exchange) -> None:
    exchange.start("401 UNAUTHORIZED", [("Content-Length", "5"), ("x-a", "b\xe9")])
    exchange.response.write(b"abc")
    assert exchange.received() == (
        b"HTTP/1.1 401 UNAUTHORIZED\r\nServer: gunicorn\r\nDate: Fri, 15 Jan 2027 08:00:00 GMT\r\n"
        b"Connection: keep-alive\r\nContent-Length: 5\r\nx-a: b\xe9\r\n\r\nabc"
    )
    # Not more than the length that was announced.
    exchange.response.write(b"defgh")
    exchange.response.close()
    assert exchange.received() == b"de"
    assert not exchange.response.should_close()


def test_a_body_of_unknown_length_is_chunked(exchange: Exchange) -> None:
    exchange.start()
    exchange.response.write(b"x" * 16)
    head, _, rest = exchange.received().partition(b"\r\n\r\n")
    assert head.endswith(b"\r\nTransfer-Encoding: chunked")
    assert rest == b"10\r\n" + b"x" * 16 + b"\r\n"
    # An empty chunk would end the body.
    exchange.response.write(b"")
    exchange.response.write(b"y")
    exchange.response.close()
    assert exchange.received() == b"1\r\ny\r\n0\r\n\r\n"


def test_an_empty_piece_sends_the_head(exchange: Exchange) -> None:
    exchange.start()
    exchange.response.write(b"")
    assert exchange.received().endswith(b"\r\n\r\n")
    exchange.response.close()
    assert exchange.received() == b"0\r\n\r\n"


def test_a_large_body_arrives_whole(exchange: Exchange) -> None:
    body = b"x" * (JOINED_BYTES + 1)
    exchange.start(headers=[("Content-Length", str(len(body)))])
    exchange.response.write(body)
    arrived = b""
    while len(arrived) < len(body):
        arrived += exchange.received()
    assert arrived.partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("HEAD", "200 OK", b"3"), ("GET", "204 NO CONTENT", None), ("GET", "304 NOT MODIFIED", b"3")],
)
def test_a_response_without_a_body_sends_none(
    exchange: Exchange, method: str, status: str, length: bytes | None
) -> None:
    exchange.response.req.method = method
    exchange.start(status, [("Content-Length", "3")])
    exchange.response.write(b"abc")
    exchange.response.close()
    head = exchange.received()
    assert head.endswith(b"\r\n\r\n") and b"chunked" not in head
    assert (b"Content-Length: 3" in head) == (length is not None)


def test_a_client_of_http_1_0_gets_no_chunks(exchange: Exchange) -> None:
    exchange.response.req.version = (1, 0)
    exchange.start()
    exchange.response.write(b"abc")
    head, _, rest = exchange.received().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n") and b"Connection: close" in head
    assert rest == b"abc"


def test_headers_of_the_connection_are_the_servers(exchange: Exchange) -> None:
    names = ("Connection", "transfer-encoding", "Server", "DATE", "Upgrade")
    exchange.start(headers=[(name, "mine") for name in names])
    exchange.response.close()
    assert b"mine" not in exchange.received()


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\n", "a\x00", "\u0100"])
def test_a_value_cannot_add_a_header(exchange: Exchange, value: str) -> None:
    with pytest.raises(InvalidResponseHeader) as raised:
        exchange.start(headers=[("x-a", value)])
    assert value not in str(raised.value)


@pytest.mark.parametrize("name", ["a b", "a\r\nb", "", "a:"])
def test_a_name_is_a_token(exchange: Exchange, name: str) -> None:
    with pytest.raises(InvalidResponseHeaderName):
        exchange.start(headers=[(name, "x")])


@pytest.fixture
def pair() -> Iterator[Pair]:
    server, client = socket.socketpair()
    # Far less than a test sends.
    server.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 4096)
    with server, client:
        yield server, client


def read_all(client: socket.socket) -> bytes:
    received = b""
    while data := client.recv(65_536):
        received += data
    return received


def test_a_piece_larger_than_the_kernels_buffer_arrives_as_the_client_reads(pair: Pair) -> None:
    server, client = pair
    data = bytes(range(256)) * 4000
    writer = gevent.spawn(send_all, server, data)
    gevent.sleep(0)
    assert not writer.ready()
    reader = gevent.spawn(read_all, client)
    writer.get(timeout=10)
    server.close()
    assert reader.get(timeout=10) == data


def test_hanging_up_ends_a_write_that_the_client_does_not_read(pair: Pair) -> None:
    server, _ = pair
    writer = gevent.spawn(send_all, server, bytes(1 << 20))
    gevent.sleep(0)
    assert not writer.ready()
    server.shutdown(sockets.SHUT_RDWR)
    with pytest.raises(OSError):
        writer.get(timeout=10)
