"""A worker closes connections of which one address, or all together, have too many."""

import logging
import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.socket import socketpair
from gunicorn.config import Config
from gunicorn.http import wsgi

from promptly.runtime import address_counts, gunicorn_worker
from promptly.runtime.address_counts import AddressCounts
from promptly.runtime.cors import Cors
from promptly.runtime.gunicorn_worker import Worker
from promptly.runtime.idle_connections import IdleConnections


class Refusing(Worker):
    """A worker outside gunicorn, which remembers the connections that it serves."""

    def __init__(self, **settings: int) -> None:
        extensions = {"settings": SimpleNamespace(**settings)}
        self.wsgi: Any = SimpleNamespace(extensions=extensions)
        self.log: Any = SimpleNamespace(warning=lambda *_, **extra: self.warnings.append(extra))
        self.warnings: list[Any] = []
        self.served: list[Any] = []
        self._warned_at = float("-inf")
        self._pools: Any = []
        self._making_room = None
        self.idle = IdleConnections()

    def _serve(self, shared: Any, client: Any, peer: Any) -> None:
        self.served.append(peer)
        # Another connection of the same address arrives while this one is open.
        if len(self.served) < 4:
            connect(self, peer)


def connect(worker: Worker, peer: Any) -> None:
    ours, theirs = socket.socketpair()
    worker.handle({}, theirs, peer)
    assert ours.recv(1) == b""
    ours.close()


@pytest.mark.parametrize(
    ("host", "hops", "limit", "served"),
    [
        ("198.51.100.7", 0, 2, 2),
        ("2001:db8::7", 0, 2, 2),
        ("198.51.100.7", 0, 0, 4),
        # Behind proxies, requests are counted instead.
        ("198.51.100.7", 1, 2, 4),
        ("10.1.2.3", 0, 2, 4),
    ],
)
def test_connections_of_an_address_are_bounded(
    monkeypatch: pytest.MonkeyPatch, host: str, hops: int, limit: int, served: int
) -> None:
    monkeypatch.setattr(address_counts, "counts", AddressCounts(1))
    worker = Refusing(trusted_proxy_hops=hops, max_connections_per_address=limit)
    for _ in range(2):
        # All are closed after the first round, and the second has as many.
        worker.served.clear()
        connect(worker, (host, 1234))
        assert worker.served == [(host, 1234)] * served
    # Reported once a minute at most.
    assert len(worker.warnings) == (served < 4)


def test_idle_connections_make_room_in_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if no other connection can be accepted that would notice the crowd."""
    worker = Refusing(trusted_proxy_hops=1, max_connections_per_address=0)
    rounds: list[float] = []
    free = [gunicorn_worker.CROWDED_PLACES]
    worker._pools = [SimpleNamespace(free_count=lambda: free[0])]

    class Idle(IdleConnections):
        def end(self, seconds: float) -> None:
            rounds.append(seconds)
            if len(rounds) == 3:
                free[0] = gunicorn_worker.CROWDED_PLACES

    worker.idle = Idle()
    monkeypatch.setattr(gevent, "sleep", lambda _: None)
    connect(worker, ("127.0.0.1", 1))
    assert worker._making_room is None
    free[0] -= 1
    connect(worker, ("127.0.0.1", 1))
    assert worker._making_room is not None
    worker._making_room.join()
    assert rounds == [gunicorn_worker.CROWDED_IDLE_SECONDS] * 3
    assert worker._making_room is None


class Serving(Worker):
    """A worker outside gunicorn, which serves one application."""

    def __init__(self, application: Any) -> None:
        configuration = Config()
        super().__init__(1, os.getpid(), [], None, 30, configuration, logging.getLogger())
        self.tmp.close()
        self.wsgi: Any = application
        application.extensions = {
            "settings": SimpleNamespace(trusted_proxy_hops=1, max_connections_per_address=0),
            "gateway": SimpleNamespace(cors=Cors([])),
        }

    def ask(self, request: bytes) -> bytes:
        """Send a request and return all that comes until the end of the connection."""
        client, server = socketpair()
        with client:
            client.settimeout(10)
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            self.handle(wsgi.base_environ(self.cfg), server, ("127.0.0.1", 1))
            return b"".join(iter(lambda: client.recv(1 << 16), b""))


class Failing:
    """An application that fails after some pieces of its response."""

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        self.closed = 0

    def __call__(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        row = 7
        assert address_counts.counts.enter(row, 1)
        environ[address_counts.ENVIRON_ROW] = row
        return self

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self._pieces):
            yield b"piece"
        raise ValueError("secret")

    def close(self) -> None:
        self.closed += 1


REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("pieces", [0, 1])
def test_a_failed_response_is_not_taken_for_a_whole_one(
    monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    monkeypatch.setattr(address_counts, "counts", AddressCounts(1))
    application = Failing(pieces)
    # The second request is not served: its client could take the answer for the first one's.
    answer = Serving(application).ask(REQUEST * 2)
    if pieces:
        assert answer.endswith(b"\r\n\r\n5\r\npiece\r\n")
    else:
        assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert application.closed == 1
    assert address_counts.counts.total(7) == 0


def test_a_worker_that_stops_says_so_in_its_last_answers() -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "0")])
        return []

    worker = Serving(application)
    assert worker.ask(REQUEST * 2).count(b"Connection: keep-alive") == 2
    worker.max_requests = 4
    # The last one that it may serve, after two others and one before.
    answer = worker.ask(REQUEST * 3)
    assert answer.count(b"Connection: keep-alive") == answer.count(b"Connection: close") == 1
    assert not worker.alive
