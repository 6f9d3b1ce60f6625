"""Sending to clients that read at once, late, or not at all."""

import socket as sockets
from collections.abc import Iterator
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from gunicorn.config import Config

from promptly.runtime.response_writer import Response, send_all

Pair = tuple[socket.socket, socket.socket]


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


def test_pieces_are_framed_as_chunks(pair: Pair) -> None:
    server, client = pair
    request = SimpleNamespace(method="POST", version=(1, 1), should_close=lambda: False)
    response = Response(request, server, Config())
    response.start_response("200 OK", [("Content-Type", "text/event-stream")])
    for piece in (b"a" * 26, b"", b"b"):
        response.write(piece)
    response.close()
    server.close()
    head, _, body = read_all(client).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    # An empty piece would end the body.
    assert body == b"1A\r\n" + b"a" * 26 + b"\r\n1\r\nb\r\n0\r\n\r\n"


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
