"""Noticing at once that a client has gone, while nothing is being written to it.

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
    """Calls `gone` once when the client's connection ends; stopped before the socket goes on."""

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
            # The socket below gevent's, whose own `recv` would wait.
            if self._socket._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                # It has sent more (pipelining): it is there, and will be heard later.
                self._watcher.stop()
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._watcher.stop()
        gevent.spawn(self._gone)

    def hang_up(self) -> None:
        """Cut a client off that does not read what is being sent to it; never blocks."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End the watch."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
