"""A worker that drains closes connections that stay idle, not those in a client's pool."""

from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from promptly.runtime import gunicorn_worker
from promptly.runtime.gunicorn_worker import IDLE_SECONDS, IdleTimeout


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
    wait.cut(IDLE_SECONDS)
    gevent.sleep(0)
    assert not waiting.ready()
    now += IDLE_SECONDS / 2
    wait.cut(IDLE_SECONDS)
    waiting.join(10)
    assert waiting.successful() and worker.idle_timeouts == set()
