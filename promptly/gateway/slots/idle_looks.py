"""Asks model servers which of their slots are idle, each in a thread of its own.

A request that was cut keeps its slot until the batch that it is in ends: seconds, while a prompt is
read. Meanwhile the server answers `/slots` late, or not within the time limit.
"""

import threading
from collections.abc import Callable

from promptly.clients.llama import LlamaError
from promptly.gateway.upstream import SLOTS_PATH, Upstream
from promptly.gateway.upstreams import UpstreamPool

# Below 0.35 ttl, after which another process looks.
TIMEOUT_SECONDS = 3.0

# Called with the server's name, the ids of its idle slots and of its busy ones, and `asked_at`.
Report = Callable[[str, list[int], list[int], int], None]


class IdleLooks:
    """Looks at servers, one look at a time for each."""

    def __init__(self, pool: UpstreamPool, report: Report) -> None:
        self._pool = pool
        self._report = report
        self._looking: set[str] = set()

    def start(self, upstream: Upstream, asked_at: int) -> None:
        """Look in the background, as asked at a time of Redis, which goes back with the answer.

        The caller is the scheduler's only thread.
        """
        if upstream.name in self._looking:
            return
        self._looking.add(upstream.name)
        threading.Thread(
            target=self._look, args=(upstream, asked_at), name="look-at-slots", daemon=True
        ).start()

    def _look(self, upstream: Upstream, asked_at: int) -> None:
        idle: list[int] = []
        busy: list[int] = []
        try:
            status, slots = upstream.client.call("GET", SLOTS_PATH, timeout_seconds=TIMEOUT_SECONDS)
            if status in (403, 404, 501):
                self._pool.lacks(upstream, SLOTS_PATH)
            elif status == 200:
                for slot in slots:
                    (busy if slot["is_processing"] else idle).append(int(slot["id"]))
        except (LlamaError, KeyError, TypeError, ValueError):
            # No answer is no news: the script asks again.
            idle, busy = [], []
        finally:
            self._looking.discard(upstream.name)
        self._report(upstream.name, idle, busy, asked_at)
