"""Reads within limits of time; those of size are tested through a gateway."""

import socket as sockets
from collections.abc import Iterator
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from gunicorn.http.errors import LimitRequestHeaders

from promptly.runtime import client_reader
from promptly.runtime.client_reader import HEAD_SECONDS, ClientReader, HeadTimeout, linger

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection's two ends, the client's first."""
    client, server = socket.socketpair()
    yield client, server
    client.close()
    server.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "STALL_SECONDS", "DISCARD_SECONDS"):
        monkeypatch.setattr(client_reader, name, 0.05)


class Clock:
    """The reader's clock, moved by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(client_reader, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def read_all(reader: ClientReader) -> None:
    while reader.read():
        pass


def test_a_head_must_end_in_time(pair: Pair, short: None) -> None:
    client, server = pair
    reader = ClientReader(server)
    for _ in range(2):
        reader.start_head()
        client.sendall(b"GET /")
        assert reader.read() == b"GET /"
        with pytest.raises(HeadTimeout):
            reader.read()
        reader.end_head()


def test_bytes_that_trickle_do_not_extend_the_time_of_a_head(pair: Pair, clock: Clock) -> None:
    client, server = pair
    reader = ClientReader(server)
    reader.start_head()

    def trickle() -> None:
        for _ in range(10):
            client.send(b"x")
            assert reader.read() == b"x"
            clock.now += HEAD_SECONDS / 8

    with pytest.raises(HeadTimeout):
        trickle()


def test_the_wait_for_a_head_is_not_part_of_its_time(pair: Pair, clock: Clock) -> None:
    client, server = pair
    reader = ClientReader(server)
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    reader.start_head()
    assert reader.read() == b"GET / HTTP/1.1\r\n\r\n"
    reader.end_head()
    reader.start_head()
    waiting = gevent.spawn(reader.read)
    gevent.sleep(0)
    clock.now += 2 * HEAD_SECONDS
    client.sendall(b"GET /")
    assert waiting.get(timeout=10) == b"GET /"


def test_a_head_is_bounded_in_bytes(pair: Pair) -> None:
    client, server = pair
    reader = ClientReader(server)
    reader.start_head()
    sending = gevent.spawn(client.sendall, b"x" * 2 * client_reader.HEAD_BYTES)
    with pytest.raises(LimitRequestHeaders):
        read_all(reader)
    sending.kill()


def test_nobody_waits_for_a_body_that_does_not_come(pair: Pair, short: None) -> None:
    _, server = pair
    reader = ClientReader(server)
    with reader.discarding(), pytest.raises(TimeoutError):
        reader.read()


def test_a_body_is_not_discarded_for_ever(
    pair: Pair, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = pair
    monkeypatch.setattr(client_reader, "STALL_SECONDS", 10)

    def flood() -> None:
        while True:
            client.send(b"x" * 10)

    sending = gevent.spawn(flood)
    reader = ClientReader(server)
    with reader.discarding(), pytest.raises(TimeoutError):
        read_all(reader)
    sending.kill()


def test_a_client_that_stays_is_left(pair: Pair, short: None) -> None:
    client, server = pair
    client.sendall(b"the rest")
    linger(server)
    assert client.recv(1) == b""


def test_a_client_that_leaves_is_not_waited_for(pair: Pair) -> None:
    client, server = pair
    client.sendall(b"the rest")
    client.shutdown(sockets.SHUT_WR)
    linger(server)
    client.close()
    linger(server)


def test_others_run_while_a_client_sends(pair: Pair) -> None:
    client, server = pair
    turns = []

    def count() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    counting = gevent.spawn(count)
    reader = ClientReader(server)
    client.sendall(b"x" * 100_000)
    received = 0
    reads = 0
    while received < 100_000:
        received += len(reader.read())
        reads += 1
    counting.kill()
    assert len(turns) >= reads > 5


def test_a_body_is_received_up_to_its_end(pair: Pair) -> None:
    client, server = pair
    reader = ClientReader(server)
    # Bytes that came with the head are first.
    reader.unread(b"12345678")
    client.sendall(b"abcdefgh")
    client.close()
    body = bytearray()
    assert [reader.receive_onto(body, size) for size in (5, 5, 5, 5, 5)] == [5, 3, 5, 3, 0]
    assert body == b"12345678abcdefgh"
