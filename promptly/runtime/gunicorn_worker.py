"""gunicorn's gevent worker with a graceful shutdown: no request is lost, streams may finish.

On SIGTERM a worker stops accepting, answers what still arrives on open connections, and closes
those that stay idle. Running requests get DRAIN_SECONDS; then the gateway ends and settles them,
where gunicorn would cut them off unsettled. On SIGQUIT it ends and settles them at once.

Connections are served by a loop of its own: after a refusal, the rest of the request's body is
discarded without holding up others, and no byte of a request that cannot be parsed is logged.
"""

import errno
import sys
import time
from contextlib import suppress
from functools import partial
from socket import SHUT_RDWR
from typing import Any, Literal, Self

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gevent.socket import socket
from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData
from gunicorn.workers.ggevent import GeventWorker

from promptly.errors import Limit
from promptly.runtime import address_counts, bad_requests, memory, request_metrics
from promptly.runtime.client_connection import ClientConnection, Request
from promptly.runtime.client_reader import linger
from promptly.runtime.cors import Cors
from promptly.runtime.early_timeout import EarlyTimeout
from promptly.runtime.response_writer import Response
from promptly.runtime.send_timeout import limit_sends
from promptly.settings import END_SECONDS, Settings

# Longer than clients and proxies usually keep idle connections (httpx 5 s, undici 4 s, the nginx
# configuration in deploy/ 10 s): one closed earlier may be about to carry a request.
IDLE_SECONDS = 15.0

# With fewer places left for connections, those that stayed idle for longer than this are closed.
CROWDED_PLACES = 400
CROWDED_IDLE_SECONDS = 5.0

# The client has gone, which is no fault of anybody.
# The last one is of a client that stopped reading (runtime/send_timeout.py).
_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ETIMEDOUT})

WARNING_SECONDS = 60.0


class IdleTimeout(EarlyTimeout):
    """Limit of the wait for a connection's next request."""

    def __init__(self, worker: "Worker") -> None:
        # gevent documents False as "expire silently"; its stubs do not declare it.
        super().__init__(worker.cfg.keepalive, False)  # type: ignore[arg-type]
        self._waits = worker.idle_timeouts
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        self._waits.add(self)
        return super().__enter__()

    def __exit__(self, *failure: Any) -> Literal[True] | None:
        self._waits.discard(self)
        return super().__exit__(*failure)

    def cut_if_idle(self, seconds: float) -> None:
        """Expire the wait if it has lasted for at least `seconds`."""
        if time.monotonic() - self._since >= seconds:
            self.cut()


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
        self._warned_at = -WARNING_SECONDS
        self._pools: list[Pool] = []
        self._making_room: gevent.Greenlet[[], None] | None = None

    @property
    def settings(self) -> Settings:
        found: Settings = self.wsgi.extensions["settings"]
        return found

    @property
    def cors(self) -> Cors:
        found: Cors = self.wsgi.extensions["cors"]
        return found

    def server_class(self, listener: socket, *, spawn: Pool, **_: object) -> StreamServer:
        """Create the server of one listener; gunicorn passes more than a StreamServer accepts."""
        self._pools.append(spawn)
        limit_sends(listener, self.settings.send_timeout_seconds)
        # A socket from promptly.runtime.listener stays open, and the next gateway accepts the rest.
        kind = StreamServer if self.settings.listener_socket else SoleServer
        server = kind(listener, handle=partial(self.handle, Address(listener)), spawn=spawn)
        if self.cfg.workers > 1:
            # Accept one connection at a time, so that the other workers get their share.
            server.max_accept = 1
        return server

    def timeout_ctx(self) -> IdleTimeout:
        return IdleTimeout(self)

    def notify(self) -> None:
        """Report to gunicorn's master that this worker is alive; called once a second."""
        super().notify()
        memory.trim()

    def handle(self, listener: Address, client: socket, peer: Any) -> None:
        """Serve a connection until it ends; close it at once if its address has too many."""
        counts, row = address_counts.counts, self._row(peer)
        if not counts.enter(row, self.settings.max_connections_per_address):
            request_metrics.count_limit(Limit.CONNECTIONS)
            self._warn_of_refused(peer)
            util.close(client)
            return
        if self._making_room is None and self._is_crowded():
            self._making_room = gevent.spawn(self._make_room)
        try:
            client.setblocking(True)
            self._serve(listener, client, peer)
        except OSError as problem:
            if problem.errno not in _GONE and not isinstance(problem, NoMoreData):
                self.log.exception("connection failed")
        finally:
            counts.leave(row)
            util.close(client)

    def _serve(self, listener: Address, client: socket, peer: Any) -> None:
        connection = ClientConnection(self.cfg, client, peer)
        request: Request | None = None
        try:
            while True:
                request = None
                with self.timeout_ctx():
                    request = connection.next_request()
                if request is None:
                    return
                try:
                    answered = self.handle_request(listener.getsockname(), request, client, peer)
                except StopIteration:
                    connection.end(request)
                    return
                if not (answered and connection.discard_body(request)):
                    return
                if connection.is_pipelined:
                    gevent.sleep(0)
        except OSError:
            raise
        except Exception as problem:
            self.handle_error(request, client, peer, problem)
            linger(client)

    def handle_request(self, name: object, req: Request, client: socket, peer: Any) -> bool:
        """Serve one request; return False if it was cut off, raise StopIteration if it is the last.

        gunicorn's own has no place for another class of responses.
        """
        response, environ = wsgi.create(req, client, peer, name, self.cfg, Response)
        self.nr += 1
        if self.nr >= self.max_requests:
            self.alive = False
        if not self.alive:
            response.force_close()
        try:
            pieces = self.wsgi(environ, response.start_response)
            try:
                for piece in pieces:
                    response.write(piece)
                response.close()
            finally:
                if close := getattr(pieces, "close", None):
                    close()
        except (gevent.GreenletExit, SystemExit):
            return False
        except OSError:
            raise
        except Exception:
            if not response.headers_sent:
                raise
            # The client must not take the part that it has for the whole.
            self.log.exception("a response was cut off")
            with suppress(OSError):
                client.shutdown(SHUT_RDWR)
            return False
        finally:
            self.cfg.post_request(self, req, environ, response)
        if response.should_close():
            raise StopIteration
        return True

    def handle_error(self, req: Request | None, client: socket, addr: Any, exc: Exception) -> None:
        """Answer a request that cannot be parsed, or that failed outside the application."""
        known = bad_requests.status_of(exc)
        if known is not None:
            self.log.warning(
                "invalid request",
                extra={"reason": type(exc).__name__, "peer": _host(addr)},
            )
        else:
            self.log.error(
                "request failed",
                exc_info=exc,
                extra={"method": getattr(req, "method", None), "path": getattr(req, "path", None)},
            )
        status, reason = known or (500, "Internal Server Error")
        with suppress(OSError):
            headers = self.cors.headers(_origin(req))
            util.write_nonblock(client, bad_requests.answer(status, reason, headers))

    def _is_crowded(self) -> bool:
        return any(pool.free_count() < CROWDED_PLACES for pool in self._pools)

    def _make_room(self) -> None:
        """Close idle connections early while only few more can be accepted.

        Many addresses together could otherwise use up all places with connections that do nothing.
        """
        while self._is_crowded():
            self._close_idle(CROWDED_IDLE_SECONDS)
            gevent.sleep(1)
        self._making_room = None

    def _row(self, peer: Any) -> int | None:
        # Behind proxies every connection comes from one of them (blueprints/address_limit.py).
        if self.settings.trusted_proxy_hops or not self.settings.max_connections_per_address:
            return None
        host = _host(peer)
        return None if host is None else address_counts.row_of(host)

    def _warn_of_refused(self, peer: Any) -> None:
        now = time.monotonic()
        if now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            self.log.warning(
                "an address has MAX_CONNECTIONS_PER_ADDRESS open", extra={"peer": _host(peer)}
            )

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
        gateway.slots.report_at_once()
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
            wait.cut_if_idle(idle_seconds)


def _origin(request: Request | None) -> str:
    """Return the origin of the page that sent a request; empty if there is none, or not known."""
    headers = request.headers if request is not None else ()
    return next((value for name, value in headers if name.lower() == "origin"), "")


def _host(peer: Any) -> str | None:
    """Return a peer's address; None if it is connected through a Unix socket."""
    return peer[0] if isinstance(peer, tuple) else None
