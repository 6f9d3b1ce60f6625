"""Notices at once that a client has disconnected, even while nothing is written to it.

Under gunicorn's gevent worker the client's socket is in the environ; the event loop itself watches
it, which costs no greenlet. Elsewhere (tests without a server) nothing is watched.
"""

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent.monkey import is_module_patched


class ClientWatch:
    """Calls `gone` once when the client disconnects; stop it before the socket is reused."""

    __slots__ = ("_gone", "_socket", "_watcher")

    def __init__(self, environ: dict[str, Any], gone: Callable[[], None]) -> None:
        self._gone = gone
        self._socket: Any = environ.get("gunicorn.socket")
        self._watcher: Any = None
        if self._socket is not None and is_module_patched("socket"):
            self._watcher = gevent.get_hub().loop.io(self._socket.fileno(), 1)
            self._watcher.start(self._readable)

    def _readable(self) -> None:
        # Runs in the event loop: nothing here may block or switch.
        try:
            # The socket underneath gevent's, whose own `recv` would wait.
            if self._socket._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                # The client is connected and has sent more (pipelining), which is read later.
                self._watcher.stop()
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._watcher.stop()
        gevent.spawn(self._gone)

    def hang_up(self) -> None:
        """Disconnect a client that does not read what is sent to it; never blocks."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Stop watching; idempotent."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
