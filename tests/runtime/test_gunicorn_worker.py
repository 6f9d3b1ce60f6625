"""A worker closes what stays idle while it drains, and what one address has too many of."""

import socket
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from promptly.runtime import address_counts, gunicorn_worker
from promptly.runtime.address_counts import AddressCounts
from promptly.runtime.gunicorn_worker import IDLE_SECONDS, IdleTimeout, Worker


def test_a_wait_that_may_end_with_a_request_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(gunicorn_worker, "time", SimpleNamespace(monotonic=lambda: now))
    worker: Any = SimpleNamespace(cfg=SimpleNamespace(keepalive=75), idle_timeouts=set())

    def connection() -> None:
        with IdleTimeout(worker):
            gevent.sleep(60)

    waiting = gevent.spawn(connection)
    gevent.sleep(0)
    [wait] = worker.idle_timeouts
    # The connection may be in a client's pool, and its next request would meet a reset.
    now += IDLE_SECONDS / 2
    wait.cut_if_idle(IDLE_SECONDS)
    gevent.sleep(0)
    assert not waiting.ready()
    now += IDLE_SECONDS / 2
    wait.cut_if_idle(IDLE_SECONDS)
    waiting.join(10)
    assert waiting.successful() and worker.idle_timeouts == set()


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
        self.idle_timeouts = set()

    def _serve(self, listener: Any, client: Any, peer: Any) -> None:
        self.served.append(peer)
        # Another connection of the same address arrives while this one is open.
        if len(self.served) < 4:
            connect(self, peer)


def connect(worker: Worker, peer: Any) -> None:
    ours, theirs = socket.socketpair()
    worker.handle(None, theirs, peer)  # type: ignore[arg-type]
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

    class Idle(IdleTimeout):
        def __init__(self) -> None:
            """Wait for nothing."""

        def cut_if_idle(self, seconds: float) -> None:
            rounds.append(seconds)
            if len(rounds) == 3:
                free[0] = gunicorn_worker.CROWDED_PLACES

    worker.idle_timeouts = {Idle()}
    monkeypatch.setattr(gevent, "sleep", lambda _: None)
    connect(worker, ("127.0.0.1", 1))
    assert worker._making_room is None
    free[0] -= 1
    connect(worker, ("127.0.0.1", 1))
    assert worker._making_room is not None
    worker._making_room.join()
    assert rounds == [gunicorn_worker.CROWDED_IDLE_SECONDS] * 3
    assert worker._making_room is None
