"""Notices at once that a client has disconnected, even while nothing is written to it.

Under gunicorn's gevent worker the client's socket is in the environ; the event loop itself watches
it, which costs no greenlet. Elsewhere (tests without a server) nothing is watched.

Bytes that a client sends after its request (pipelining, a stray line break) stay unread until the
next request, and to the loop they look the same as the end of the connection behind them. From then
on the state of the connection is looked at every LOOK_SECONDS.
"""

import contextlib
import select
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent.monkey import get_original, is_module_patched

LOOK_SECONDS = 0.5

# Key of the WSGI environ under which gunicorn keeps the connection.
_SOCKET = "gunicorn.socket"

# Linux reports the end of what a client sends; elsewhere only the end of both directions shows.
_ENDED = getattr(select, "POLLRDHUP", 0)


def has_left(environ: dict[str, Any]) -> bool:
    """Return whether the client has disconnected, at this moment; never blocks."""
    client = environ.get(_SOCKET)
    return client is not None and _has_ended(client)


def _has_ended(client: Any) -> bool:
    poll = get_original("select", "poll")()
    poll.register(client.fileno(), _ENDED)
    # Errors and a closed connection are reported unasked.
    return bool(poll.poll(0))


class ClientWatch:
    """Calls `gone` once when the client disconnects; stop it before the socket is reused."""

    __slots__ = ("_gone", "_socket", "_watcher")

    def __init__(self, environ: dict[str, Any], gone: Callable[[], None]) -> None:
        self._gone: Callable[[], None] | None = gone
        self._socket: Any = environ.get(_SOCKET)
        self._watcher: Any = None
        if self._socket is not None and is_module_patched("socket"):
            self._watch(gevent.get_hub().loop.io(self._socket.fileno(), 1), self._readable)

    def _watch(self, watcher: Any, callback: Callable[[], None]) -> None:
        self._end_watcher()
        self._watcher = watcher
        watcher.start(callback)

    # The callbacks run in the event loop: nothing in them may block or switch.

    def _readable(self) -> None:
        try:
            # The socket underneath gevent's, whose own `recv` would wait.
            if self._socket._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                timer = gevent.get_hub().loop.timer(LOOK_SECONDS, LOOK_SECONDS)
                self._watch(timer, self._look)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._report()

    def _look(self) -> None:
        if _has_ended(self._socket):
            self._report()

    def _report(self) -> None:
        gone = self._gone
        self.stop()
        if gone is not None:
            gevent.spawn(gone)

    def hang_up(self) -> None:
        """Disconnect a client that does not read what is sent to it; never blocks."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Stop watching; idempotent."""
        self._end_watcher()
        # It refers to the request, which refers to this: together they would wait for the garbage
        # collector, and keep the whole prompt until then.
        self._gone = None

    def _end_watcher(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
