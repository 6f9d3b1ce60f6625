"""gunicorn's gevent worker with a graceful shutdown: idle connections close, streams may finish.

On shutdown a worker closes the connections without a request in progress: a client's connection
pool would otherwise keep it alive until keep-alive expires. Running streams get the grace period;
then the gateway ends and settles them, where gunicorn would cut them off unsettled.
"""

import time
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gevent.socket import socket
from gunicorn.workers.ggevent import GeventWorker

# Part of the grace period reserved for ending streams and settling them.
END_SECONDS = 10
# A connection idle for less than this is probably about to send its request.
IDLE_SECONDS = 1.0


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

    def cut(self) -> None:
        """Expire the wait now, unless it started less than IDLE_SECONDS ago."""
        if self._greenlet is not None and time.monotonic() - self._since >= IDLE_SECONDS:
            gevent.get_hub().loop.run_callback(self._greenlet.throw, self)


class Address:
    """The listener's address: gunicorn asks for it when the listener may be closed already."""

    def __init__(self, listener: socket) -> None:
        self._name = listener.getsockname()

    def getsockname(self) -> object:
        return self._name


class Server(StreamServer):
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

    def server_class(self, listener: socket, *, spawn: Pool, **_: object) -> Server:
        """Create the server of one listener; gunicorn passes more than a StreamServer accepts."""
        server = Server(listener, handle=partial(self.handle, Address(listener)), spawn=spawn)
        if self.cfg.workers > 1:
            # Accept one connection at a time, so that the other workers get their share.
            server.max_accept = 1
        return server

    def timeout_ctx(self) -> IdleTimeout:
        return IdleTimeout(self)

    def drain_when_told(self) -> None:
        """Wait for shutdown, then drain; runs in a greenlet of its own from the worker's start."""
        while self.alive:
            gevent.sleep(0.25)
        gateway = self.wsgi.extensions["gateway"]
        gevent.spawn(gateway.drain, max(self.cfg.graceful_timeout - END_SECONDS, 1))
        while True:
            for wait in list(self.idle_timeouts):
                wait.cut()
            gevent.sleep(0.25)
