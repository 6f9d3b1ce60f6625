"""Waiting for one socket, again and again, at the price of one system call less each time.

gevent's own sockets try to read, fail, tell epoll, start a timer, wait, and read again. Here epoll
is told once: the watcher stays in the event loop while its greenlet deals with what came, and is
only taken out when data comes that nobody is waiting for.
"""

from typing import Any

from gevent import get_hub
from gevent import getcurrent as current_greenlet

_READABLE = 1


class Readiness:
    """The readability of one non-blocking socket; for one waiting greenlet at a time.

    Belongs to the thread whose greenlet waits first. `close` it before the socket.
    """

    __slots__ = ("_hub", "_seconds", "_started", "_timer", "_waiting", "_watcher")

    def __init__(self, fileno: int) -> None:
        self._hub = get_hub()
        self._watcher: Any = self._hub.loop.io(fileno, _READABLE)
        self._timer: Any = None
        self._seconds = 0.0
        self._started = False
        self._waiting: Any = None

    def wait_at_most(self, seconds: float) -> None:
        """From now on a wait ends after so long."""
        if seconds != self._seconds:
            self._stop_timer()
            self._seconds = seconds
            self._timer = self._hub.loop.timer(seconds, seconds)

    def wait(self) -> bool:
        """Wait until there is something to read; False when the time is up."""
        if not self._started:
            self._watcher.start(self._on_readable)
            self._started = True
        if self._timer is not None:
            self._timer.again(self._on_time)
        self._waiting = current_greenlet()
        try:
            return bool(self._hub.switch())
        finally:
            self._waiting = None

    def close(self) -> None:
        """Leave the event loop."""
        self._watcher.stop()
        self._watcher.close()
        self._stop_timer()

    def _on_readable(self) -> None:
        if self._waiting is None:
            # Its greenlet is busy, with a client that does not read perhaps.
            self._watcher.stop()
            self._started = False
        else:
            self._waiting.switch(True)

    def _on_time(self) -> None:
        if self._waiting is not None:
            self._waiting.switch(False)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
