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
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gevent.socket import socket
from gunicorn import util
from gunicorn.http.errors import NoMoreData
from gunicorn.workers.ggevent import GeventWorker

from promptly.errors import Limit
from promptly.runtime import address_counts, bad_requests, memory, request_metrics
from promptly.runtime import environ as environs
from promptly.runtime.client_connection import ClientConnection, ParserSettings, Request
from promptly.runtime.client_reader import linger
from promptly.runtime.cors import Cors
from promptly.runtime.environ import Environ
from promptly.runtime.idle_connections import IdleConnections
from promptly.runtime.response import Response
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
        self.idle = IdleConnections()
        self._parser_settings = ParserSettings(self.cfg)
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
        found: Cors = self.wsgi.extensions["gateway"].cors
        return found

    def server_class(
        self, listener: socket, *, spawn: Pool, environ: Environ, **_: object
    ) -> StreamServer:
        """Create the server of one listener; gunicorn passes more than a StreamServer accepts."""
        self._pools.append(spawn)
        limit_sends(listener, self.settings.send_timeout_seconds)
        # A socket from promptly.runtime.listener stays open, and the next gateway accepts the rest.
        kind = StreamServer if self.settings.listener_socket else SoleServer
        shared = environs.of_listener(environ, listener)
        server = kind(listener, handle=partial(self.handle, shared), spawn=spawn)
        if self.cfg.workers > 1:
            # Accept one connection at a time, so that the other workers get their share.
            server.max_accept = 1
        return server

    def notify(self) -> None:
        """Report to gunicorn's master that this worker is alive; called once a second."""
        super().notify()
        memory.trim()
        self.idle.end(self.cfg.keepalive)

    def handle(self, shared: Environ, client: socket, peer: Any) -> None:
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
            self._serve(shared, client, peer)
        except OSError as problem:
            if problem.errno not in _GONE and not isinstance(problem, NoMoreData):
                self.log.exception("connection failed")
        finally:
            counts.leave(row)
            util.close(client)

    def _serve(self, shared: Environ, client: socket, peer: Any) -> None:
        connection = ClientConnection(self._parser_settings, client, peer, self.idle)
        shared = environs.of_connection(shared, client, peer)
        request: Request | None = None
        try:
            while True:
                # Its body is not to stay in memory while the connection waits for the next one.
                request = None
                request = connection.next_request()
                if request is None:
                    return
                if not self._answer(request, environs.of_request(shared, request), client):
                    connection.end(request)
                    return
                if not connection.discard_body(request):
                    return
                if connection.is_pipelined:
                    gevent.sleep(0)
        except (gevent.GreenletExit, SystemExit):
            return
        except OSError:
            raise
        except Exception as problem:
            self.handle_error(request, client, peer, problem)
            linger(client)
        finally:
            connection.close()

    def _answer(self, request: Request, environ: Environ, client: socket) -> bool:
        """Serve one request; return whether another one may follow on its connection."""
        response = Response(request, client, self._parser_settings)
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
        except OSError:
            raise
        except (Exception, SystemExit):
            if not response.headers_sent:
                raise
            # The client must not take the part that it has for the whole.
            self.log.exception("a response was cut off")
            with suppress(OSError):
                client.shutdown(SHUT_RDWR)
            return False
        finally:
            # Only counted if it was counted at its start (blueprints/address_limit.py).
            address_counts.counts.leave(environ.get(address_counts.ENVIRON_ROW))
        return not response.should_close()

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
            self.idle.end(CROWDED_IDLE_SECONDS)
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
            self.idle.end(IDLE_SECONDS)
            gevent.sleep(0.25)
        gevent.spawn(gateway.end_requests)
        # A second before gunicorn's master would kill the process.
        deadline = time.monotonic() + END_SECONDS - 1
        while time.monotonic() < deadline:
            self.idle.end(0)
            gevent.sleep(0.25)
        sys.exit(0)


def _origin(request: Request | None) -> str:
    """Return the origin of the page that sent a request; empty if there is none, or not known."""
    headers = request.headers if request is not None else ()
    return next((value for name, value in headers if name.lower() == "origin"), "")


def _host(peer: Any) -> str | None:
    """Return a peer's address; None if it is connected through a Unix socket."""
    return peer[0] if isinstance(peer, tuple) else None
