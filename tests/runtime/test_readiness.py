"""Repeated waits for one socket."""

import socket
import time
from collections.abc import Iterator

import gevent
import pytest

from promptly.runtime.readiness import Readiness


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_waits_end_with_data_or_in_time(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    readiness = Readiness(ours.fileno())
    readiness.wait_at_most(0.02)
    assert [readiness.wait() for _ in range(3)] == [False] * 3
    readiness.wait_at_most(60)
    for _ in range(3):
        theirs.send(b"x")
        assert readiness.wait()
        assert ours.recv(10) == b"x"
    readiness.wait_at_most(0.02)
    assert not readiness.wait()
    readiness.close()


def test_data_that_arrived_while_the_event_loop_was_busy_is_in_time(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    readiness = Readiness(ours.fileno())
    readiness.wait_at_most(0.05)

    def hold_the_loop() -> None:
        theirs.send(b"x")
        time.sleep(0.2)

    for _ in range(3):
        gevent.spawn(hold_the_loop)
        assert readiness.wait()
        assert ours.recv(10) == b"x"
    readiness.close()


def test_a_greenlet_that_was_busy_before_its_wait_has_all_of_its_time(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    readiness = Readiness(ours.fileno())
    readiness.wait_at_most(0.3)
    theirs.send(b"x")
    assert readiness.wait()
    ours.recv(10)
    time.sleep(0.5)
    started_at = time.monotonic()
    assert not readiness.wait()
    assert time.monotonic() - started_at >= 0.3
    readiness.close()


def test_an_idle_socket_wakes_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    readiness = Readiness(ours.fileno())
    readiness.wait_at_most(0.01)
    theirs.send(b"x")
    # Left unread, so that the socket leaves the event loop as well.
    assert readiness.wait()
    assert gevent.get_hub().join(timeout=10)
    readiness.close()


def test_a_wait_without_a_limit_ends_with_data(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    readiness = Readiness(ours.fileno())
    gevent.spawn_later(0.05, theirs.send, b"x")
    assert readiness.wait()
    assert ours.recv(10) == b"x"
    readiness.close()
