"""A TCP proxy that a test can shut and reopen, as if the server went away and came back."""

import contextlib
import selectors
import socket
import threading

from sqlalchemy import make_url


class TcpProxy:
    """Forward TCP connections on 127.0.0.1 to another address while open.

    `target` is (host, port), or the path of a Unix socket.
    """

    def __init__(self, target: tuple[str, int] | str) -> None:
        self._target = target
        self._is_open = True
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """Cut all connections and refuse new ones."""
        with self._lock:
            self._is_open = False
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._is_open = True

    def close(self) -> None:
        """Cut all connections and release the port."""
        self.shut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, self._connect() as far:
            with self._lock:
                if not self._is_open:
                    return
                pair = {near, far}
                self._connections |= pair
            with contextlib.suppress(OSError):
                _forward(near, far)
            with self._lock:
                self._connections -= pair

    def _connect(self) -> socket.socket:
        if isinstance(self._target, str):
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            return far
        return socket.create_connection(self._target)


def _forward(near: socket.socket, far: socket.socket) -> None:
    other = {near: far, far: near}
    with selectors.DefaultSelector() as selector:
        for end in other:
            selector.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                sender = key.fileobj
                assert isinstance(sender, socket.socket)
                data = sender.recv(65536)
                if not data:
                    return
                other[sender].sendall(data)


def before_postgres(url: str) -> tuple[TcpProxy, str]:
    """Return a proxy in front of a URL's PostgreSQL, and the URL of the database through it."""
    parts = make_url(url)
    sockets = parts.query.get("host")
    target: tuple[str, int] | str
    if isinstance(sockets, str):
        target = f"{sockets}/.s.PGSQL.{parts.port or 5432}"
    else:
        target = (parts.host or "127.0.0.1", parts.port or 5432)
    proxy = TcpProxy(target)
    through = parts.difference_update_query(["host"]).set(host="127.0.0.1", port=proxy.port)
    return proxy, through.render_as_string(hide_password=False)
