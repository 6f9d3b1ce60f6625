"""Responses as they arrive: status line, headers, framing."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gevent import socket
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName

from promptly.runtime import response as responses
from promptly.runtime.response import JOINED_BYTES, Response

Headers = list[tuple[str, str]]


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
