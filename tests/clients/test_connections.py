"""Plain sockets under gevent: addresses, refusals, and sending to a server that reads slowly."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import gevent
import pytest

from promptly.clients import connections
from promptly.clients.connections import Connector, send
from sandbox.ports import free_port

LOOPBACK = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener


def connector(listener: socket.socket, host: str = LOOPBACK) -> Connector:
    return Connector(host, listener.getsockname()[1], None, 5)


def test_a_name(listener: socket.socket) -> None:
    # It may have an IPv6 address as well, where nothing listens.
    opened, address = connector(listener, "localhost").connect()
    with closing(opened):
        assert address == listener.getsockname()


def test_a_refusal() -> None:
    with pytest.raises(ConnectionRefusedError):
        Connector(LOOPBACK, free_port(), None, 5).connect()


def test_an_unknown_name() -> None:
    with pytest.raises(socket.gaierror):
        Connector("nowhere.invalid", 80, None, 5).connect()


def fill(target: Connector, opened: ExitStack) -> None:
    for _ in range(10):
        opened.enter_context(closing(target.connect().socket))


def test_a_server_that_does_not_accept() -> None:
    """A full queue of the kernel drops what asks to connect."""
    with socket.create_server((LOOPBACK, 0), backlog=0) as listener:
        target = Connector(LOOPBACK, listener.getsockname()[1], None, 0.05)
        with ExitStack() as opened, pytest.raises(TimeoutError):
            fill(target, opened)


@pytest.mark.parametrize("size", [0, 100, 100_000, 30_000_000])
def test_sending(listener: socket.socket, size: int) -> None:
    received = bytearray()

    def read() -> None:
        far, _ = listener.accept()
        with far:
            while data := far.recv(1 << 20):
                received.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    opened, _ = connector(listener).connect()
    with closing(opened):
        send(opened, b"head", memoryview(b"x" * size))
    reader.join(10)
    assert received == b"head" + b"x" * size


def test_others_run_while_a_server_does_not_read(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SEND_TIMEOUT_SECONDS", 0.2)
    opened, _ = connector(listener).connect()
    turns: list[int] = []

    def take_turns() -> None:
        for turn in range(5):
            turns.append(turn)
            gevent.sleep(0)

    other = gevent.spawn(take_turns)
    with closing(opened), pytest.raises(TimeoutError):
        send(opened, b"head", b"x" * 30_000_000)
    assert turns == [0, 1, 2, 3, 4]
    other.join()


def test_a_server_that_closes_while_it_is_sent_to(listener: socket.socket) -> None:
    opened, _ = connector(listener).connect()

    def close() -> None:
        far, _ = listener.accept()
        far.recv(1000)
        far.close()

    closer = threading.Thread(target=close)
    closer.start()
    with closing(opened), pytest.raises((ConnectionResetError, BrokenPipeError)):
        send(opened, b"head", b"x" * 30_000_000)
    closer.join(10)
