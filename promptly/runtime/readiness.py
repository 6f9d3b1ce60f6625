"""Repeated waits for one socket, with one system call less for each.

gevent's own sockets try to read, fail, register with epoll, start a timer, wait, and read again.
Here the socket is registered once: the watcher stays in the event loop while its greenlet handles
the data, and is removed only when more data arrives before the greenlet waits again. The timer is
not set for each wait either: when it fires, it looks at how long the present wait has lasted, and
while nobody waits it is not set again.
"""

from time import monotonic
from typing import Any

from gevent import get_hub
from gevent import getcurrent as current_greenlet

_READABLE = 1


class Readiness:
    """The readability of one non-blocking socket; for one waiting greenlet at a time.

    Bound to the event loop of the thread that creates it. `close` it before the socket.
    """

    __slots__ = (
        "_hub",
        "_since",
        "_started",
        "_switch",
        "_timer",
        "_waiting",
        "_watcher",
        "seconds",
    )

    def __init__(self, fileno: int) -> None:
        self._hub = get_hub()
        self._switch = self._hub.switch
        self._since = 0.0
        self._watcher: Any = self._hub.loop.io(fileno, _READABLE)
        self._timer: Any = None
        # The timeout of each wait; 0 for none.
        self.seconds = 0.0
        self._started = False
        self._waiting: Any = None

    def wait_at_most(self, seconds: float) -> None:
        """Set the timeout of every following wait."""
        if seconds != self.seconds:
            self._stop_timer()
            self.seconds = seconds

    def wait(self) -> bool:
        """Wait until the socket is readable; return False on a timeout, if there is one."""
        if not self._started:
            self._watcher.start(self._on_readable)
            self._started = True
        if self._timer is None and self.seconds:
            self._start_timer(self.seconds)
        # Not the event loop's own clock, which stands still while callbacks and greenlets run.
        self._since = monotonic()
        self._waiting = current_greenlet()
        try:
            return bool(self._switch())
        finally:
            self._waiting = None

    def close(self) -> None:
        """Remove the watcher and the timer from the event loop."""
        self._watcher.stop()
        self._watcher.close()
        self._stop_timer()

    def _on_readable(self) -> None:
        if self._waiting is None:
            # The greenlet is busy, perhaps with a client that does not read.
            self._watcher.stop()
            self._started = False
        else:
            self._waiting.switch(True)

    def _on_time(self) -> None:
        self._stop_timer()
        if self._waiting is None:
            return
        left = self._since + self.seconds - monotonic()
        if left > 0:
            self._start_timer(left)
        elif not self._watcher.pending:
            self._waiting.switch(False)
        # Otherwise the event loop was busy when data arrived, and reports it right after this.

    def _start_timer(self, seconds: float) -> None:
        self._timer = self._hub.loop.timer(seconds)
        self._timer.start(self._on_time)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
