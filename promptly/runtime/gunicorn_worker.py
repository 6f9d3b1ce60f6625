"""gunicorn's gevent worker, with an end that is quick for idle connections and patient for streams.

A worker that is told to go closes the connections on which no request is under way: a client's
pool would otherwise hold it up until its keep-alive ends. Running streams get the grace period and
are then ended and settled by the gateway; without that gunicorn would cut them unsettled.
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

# What is left of the grace period for ending streams and settling them.
END_SECONDS = 10
# A connection that has waited for less is about to bring its request.
IDLE_SECONDS = 1.0


class IdleTimeout(gevent.Timeout):
    """The wait for the next request on a connection, which the worker can cut short."""

    def __init__(self, worker: "Worker") -> None:
        # gevent documents False as "end silently"; its stubs do not know.
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
        """End the wait now, as if its time were up, unless it has just begun."""
        if self._greenlet is not None and time.monotonic() - self._since >= IDLE_SECONDS:
            gevent.get_hub().loop.run_callback(self._greenlet.throw, self)


class Address:
    """Where a connection came in: gunicorn asks the listener, which may be closed by then."""

    def __init__(self, listener: socket) -> None:
        self._name = listener.getsockname()

    def getsockname(self) -> object:
        return self._name


class Server(StreamServer):
    """Accepts connections, and before it closes also those that wait in the kernel's queue.

    To their clients they are connected, and the last worker that closes would reset them.
    """

    def close(self) -> None:
        if not self.closed:
            with suppress(OSError):
                while not self.full() and (accepted := self.do_read()):
                    self.do_handle(*accepted)
        super().close()


class Worker(GeventWorker):  # type: ignore[misc]
    """The worker that gunicorn.conf.py names."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self.idle_timeouts: set[IdleTimeout] = set()

    def server_class(self, listener: socket, *, spawn: Pool, **_: object) -> Server:
        """What gunicorn calls for each address, with more than a plain StreamServer needs."""
        server = Server(listener, handle=partial(self.handle, Address(listener)), spawn=spawn)
        if self.cfg.workers > 1:
            # One at a time, so that the others get their share.
            server.max_accept = 1
        return server

    def timeout_ctx(self) -> IdleTimeout:
        return IdleTimeout(self)

    def drain_when_told(self) -> None:
        """Wait for the order to go, then drain; runs beside the worker from its start."""
        while self.alive:
            gevent.sleep(0.25)
        gateway = self.wsgi.extensions["gateway"]
        gevent.spawn(gateway.drain, max(self.cfg.graceful_timeout - END_SECONDS, 1))
        while True:
            for wait in list(self.idle_timeouts):
                wait.cut()
            gevent.sleep(0.25)
