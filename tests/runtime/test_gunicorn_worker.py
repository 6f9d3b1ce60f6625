"""A worker that drains closes idle connections, not those whose wait has just started."""

from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from promptly.runtime import gunicorn_worker
from promptly.runtime.gunicorn_worker import IDLE_SECONDS, IdleTimeout


def test_a_wait_that_has_just_started_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(gunicorn_worker, "time", SimpleNamespace(monotonic=lambda: now))
    worker: Any = SimpleNamespace(cfg=SimpleNamespace(keepalive=75), idle_timeouts=set())

    def connection() -> None:
        with IdleTimeout(worker):
            gevent.sleep(60)

    waiting = gevent.spawn(connection)
    gevent.sleep(0)
    [wait] = worker.idle_timeouts
    # Its request may be in transit, and its client would see a reset connection.
    now += IDLE_SECONDS / 2
    wait.cut()
    gevent.sleep(0)
    assert not waiting.ready()
    now += IDLE_SECONDS / 2
    wait.cut()
    waiting.join(10)
    assert waiting.successful() and worker.idle_timeouts == set()
