"""Connections that wait too long are ended, and no request is lost by that."""

from collections.abc import Iterator
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket

from promptly.runtime import idle_connections
from promptly.runtime.client_reader import ClientReader
from promptly.runtime.gunicorn_worker import IDLE_SECONDS
from promptly.runtime.idle_connections import IdleConnections


class Clock:
    """The connections' clock, moved by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(idle_connections, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Connection:
    """A connection whose server waits for a request."""

    def __init__(self, idle: IdleConnections) -> None:
        self.client, self.server = socket.socketpair()
        self.reader = ClientReader(self.server)
        idle.add(self.server)
        self.waiting = gevent.spawn(self._wait)
        gevent.sleep(0)

    def _wait(self) -> bytes:
        self.reader.start_head()
        return self.reader.read()

    def close(self) -> None:
        self.reader.close()
        self.client.close()
        self.server.close()


@pytest.fixture
def idle() -> IdleConnections:
    return IdleConnections()


@pytest.fixture
def connection(clock: Clock, idle: IdleConnections) -> Iterator[Connection]:
    connection = Connection(idle)
    yield connection
    connection.close()


def test_a_wait_that_may_end_with_a_request_goes_on(
    clock: Clock, idle: IdleConnections, connection: Connection
) -> None:
    # The connection may be in a client's pool, and its next request would meet a reset.
    clock.now += IDLE_SECONDS / 2
    idle.end(IDLE_SECONDS)
    gevent.sleep(0)
    assert not connection.waiting.ready()
    clock.now += IDLE_SECONDS / 2
    idle.end(IDLE_SECONDS)
    assert connection.waiting.get(timeout=10) == b""


def test_only_those_that_wait_for_long_are_ended(
    clock: Clock, idle: IdleConnections, connection: Connection
) -> None:
    clock.now += 10
    later = Connection(idle)
    clock.now += 10
    idle.end(20)
    assert connection.waiting.get(timeout=10) == b""
    later.client.sendall(b"GET /")
    assert later.waiting.get(timeout=10) == b"GET /"
    later.close()


def test_the_next_wait_starts_from_zero(
    clock: Clock, idle: IdleConnections, connection: Connection
) -> None:
    clock.now += 10
    idle.remove(connection.server)
    idle.end(0)
    idle.add(connection.server)
    clock.now += 10
    idle.end(20)
    connection.client.sendall(b"GET /")
    assert connection.waiting.get(timeout=10) == b"GET /"


def test_a_request_that_has_just_arrived_is_read(
    idle: IdleConnections, connection: Connection
) -> None:
    connection.client.sendall(b"GET /")
    idle.end(0)
    assert connection.waiting.get(timeout=10) == b"GET /"
    assert connection.reader.read() == b""
