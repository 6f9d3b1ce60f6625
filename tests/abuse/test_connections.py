"""Heads without end, and clients that do not read."""

import itertools
import json
import socket
from collections.abc import Callable
from functools import partial

import pytest

from tests.abuse.arena import Arena
from tests.abuse.sockets import at_once, connect, head, hold_open, pour, read_all, status_of
from tests.support.load import messages, new_tag

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]


def one_long_header(arena: Arena) -> None:
    pour(arena.port, b"GET / HTTP/1.1\r\nHost: [::1]\r\nX: ", itertools.repeat(b"a" * 65536), 3)


def headers_without_number(arena: Arena) -> None:
    pour(arena.port, b"GET / HTTP/1.1\r\nHost: [::1]\r\n", itertools.repeat(b"A: b\r\n" * 8192), 3)


def a_long_line(arena: Arena) -> None:
    pour(arena.port, b"GET /", itertools.repeat(b"a" * 65536), 3)


@pytest.mark.parametrize(
    "send",
    [
        headers_without_number,
        pytest.param(one_long_header, marks=pytest.mark.exhaustive),
        pytest.param(a_long_line, marks=pytest.mark.exhaustive),
    ],
)
def test_heads_without_end(arena: Arena, send: Callable[[Arena], object]) -> None:
    arena.withstand(lambda: at_once(4, partial(send, arena)))


@pytest.mark.exhaustive
def test_heads_that_do_not_come(arena: Arena) -> None:
    def attack() -> None:
        # The server ends each of them, once it has waited for long enough.
        for connection in hold_open(arena.port, [b"GET / HTTP/1.1\r\nHost: [::1]\r\nX: "] * 300):
            with connection:
                assert status_of(read_all(connection)) == 408

    arena.withstand(attack)


def test_clients_that_do_not_read(arena: Arena) -> None:
    key = arena.trial_account(10_000_000).key

    def attack() -> None:
        held = [_stream_unread(arena, key) for _ in range(4)]
        # The last of them is answered, so the others are being answered too.
        with connect(arena.port) as connection:
            connection.sendall(head("GET", "/health", {"Connection": "close"}))
            assert status_of(read_all(connection)) == 200
        for connection in held:
            connection.close()

    arena.withstand(attack)


def _stream_unread(arena: Arena, key: str) -> socket.socket:
    """Request a long answer, and read only its status."""
    body = json.dumps({"messages": messages(new_tag(), "tokens=20000"), "stream": True}).encode()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", arena.port))
    headers = {"Authorization": f"Bearer {key}", "Content-Length": len(body)}
    connection.sendall(head("POST", "/v1/chat/completions", headers) + body)
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection
