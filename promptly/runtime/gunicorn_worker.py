"""gunicorn's gevent worker with a graceful shutdown: no request is lost, streams may finish.

On SIGTERM a worker stops accepting, answers what still arrives on open connections, and closes
those that stay idle. Running requests get DRAIN_SECONDS; then the gateway ends and settles them,
where gunicorn would cut them off unsettled. On SIGQUIT it ends and settles them at once.
"""

import errno
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gevent.socket import socket
from gunicorn.workers.ggevent import GeventWorker

from promptly.runtime.send_timeout import limit_sends
from promptly.settings import END_SECONDS, Settings

# Longer than clients and proxies usually keep idle connections (httpx 5 s, undici 4 s, the nginx
# configuration in deploy/ 10 s): one closed earlier may be about to carry a request.
IDLE_SECONDS = 15.0


class IdleTimeout(gevent.Timeout):
    """Limit of the wait for a connection's next request; the worker can expire it early."""

    def __init__(self, worker: "Worker") -> None:
        # gevent documents False as "expire silently"; its stubs do not declare it.
        super().__init__(worker.cfg.keepalive, False)  # type: ignore[arg-type]
        self._waits = worker.idle_timeouts
        self._greenlet: Any = None
        self._since = time.monotonic()

    def __enter__(self) -> "IdleTimeout":
        self._greenlet = gevent.getcurrent()
        self._waits.add(self)
        super().__enter__()
        return self

    def __exit__(self, *failure: Any) -> Literal[True] | None:
        self._waits.discard(self)
        return super().__exit__(*failure)

    def cut(self, idle_seconds: float) -> None:
        """Expire the wait now if it started at least `idle_seconds` ago."""
        if self._greenlet is not None and time.monotonic() - self._since >= idle_seconds:
            gevent.get_hub().loop.run_callback(self._greenlet.throw, self)


class Address:
    """The listener's address: gunicorn asks for it when the listener may be closed already."""

    def __init__(self, listener: socket) -> None:
        self._name = listener.getsockname()

    def getsockname(self) -> object:
        return self._name


class SoleServer(StreamServer):
    """Accepts connections, and before closing also those in the kernel's backlog.

    To their clients those are connected, and the last worker to close would reset them.
    """

    def close(self) -> None:
        if not self.closed:
            with suppress(OSError):
                while not self.full() and (accepted := self.do_read()):
                    self.do_handle(*accepted)
        super().close()


class Worker(GeventWorker):  # type: ignore[misc]
    """The worker class named in gunicorn.conf.py."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self.idle_timeouts: set[IdleTimeout] = set()
        self.at_once = False

    @property
    def settings(self) -> Settings:
        found: Settings = self.wsgi.extensions["settings"]
        return found

    def server_class(self, listener: socket, *, spawn: Pool, **_: object) -> StreamServer:
        """Create the server of one listener; gunicorn passes more than a StreamServer accepts."""
        limit_sends(listener, self.settings.send_timeout_seconds)
        # A socket from promptly.runtime.listener stays open, and the next gateway accepts the rest.
        kind = StreamServer if self.settings.listener_socket else SoleServer
        server = kind(listener, handle=partial(self.handle, Address(listener)), spawn=spawn)
        if self.cfg.workers > 1:
            # Accept one connection at a time, so that the other workers get their share.
            server.max_accept = 1
        return server

    def handle_request(self, *arguments: Any) -> Any:
        """Handle one request; a client that stopped reading counts as gone, not as an error."""
        try:
            return super().handle_request(*arguments)
        except TimeoutError as problem:
            raise ConnectionResetError(errno.ECONNRESET, "client does not read") from problem

    def timeout_ctx(self) -> IdleTimeout:
        return IdleTimeout(self)

    def handle_quit(self, sig: int, frame: object) -> None:
        """Handle SIGQUIT and SIGINT: stop for good, without waiting for running requests."""
        self.at_once = True
        self.alive = False

    def drain_when_told(self) -> None:
        """Wait for shutdown, then drain; runs in a greenlet of its own from the worker's start.

        gunicorn ends the worker as soon as its last connection is closed.
        """
        while self.alive:
            gevent.sleep(0.25)
        gateway = self.wsgi.extensions["gateway"]
        gateway.draining = True
        deadline = time.monotonic() + self.settings.drain_seconds
        while not self.at_once and time.monotonic() < deadline:
            self._close_idle(IDLE_SECONDS)
            gevent.sleep(0.25)
        gevent.spawn(gateway.end_requests)
        # A second before gunicorn's master would kill the process.
        deadline = time.monotonic() + END_SECONDS - 1
        while time.monotonic() < deadline:
            self._close_idle(0)
            gevent.sleep(0.25)
        sys.exit(0)

    def _close_idle(self, idle_seconds: float) -> None:
        for wait in list(self.idle_timeouts):
            wait.cut(idle_seconds)
