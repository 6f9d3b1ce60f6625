"""Repeated waits for one socket."""

import socket
from collections.abc import Iterator

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
