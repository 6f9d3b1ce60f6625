"""A webhook endpoint that a test owns: records requests and answers as configured."""

import threading
from dataclasses import dataclass, field

from sandbox.process import wait_until
from sandbox.provider.http import Answer, Request, Server


@dataclass
class Receiver:
    """A webhook endpoint; ``statuses`` answer the first requests, 200 all others."""

    statuses: list[int] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    slow_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._server = Server(0)
        self._server.handler = self._take
        self._server.start()

    @property
    def url(self) -> str:
        return f"{self._server.url}/webhook"

    def wait_for(self, count: int) -> list[Request]:
        """Return the requests once at least ``count`` have arrived."""
        wait_until(lambda: len(self.requests) >= count, 20, f"{count} webhooks")
        return self.requests

    def stop(self) -> None:
        self._stopping.set()
        self._server.stop()

    def _take(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            status = self.statuses.pop(0) if self.statuses else 200
        self._stopping.wait(self.slow_seconds)
        return Answer(status=status)
