"""Holds the listening socket while gateways come and go, so that a deploy refuses no connection.

`python -m promptly.runtime.listener` listens on GATEWAY_BIND:GATEWAY_PORT and hands that socket to
every gateway that connects to the Unix socket LISTENER_SOCKET. Two gateways then share one queue
of connections: when the old one closes its descriptor, the new one accepts the rest. Deploys do
not restart this process. It uses the standard library only, and so little memory that it reads its
three variables itself instead of loading promptly.settings. Logging is loaded for its last line.

Each gateway keeps its connection open. When that ends, this process has ended, and a gateway must
fetch the socket of its successor (gunicorn.conf.py).
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

BACKLOG = 2048
RECEIVE_SECONDS = 30.0


def private_socket(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user can connect to; replaces a file left behind."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(umask)
    listening.listen()
    return listening


@contextmanager
def bound(host: str, port: int, path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Bind the public socket and the Unix socket, in this order: a second copy stops at the first.

    Raises OSError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, port), family=family, backlog=BACKLOG) as public,
        private_socket(path) as control,
    ):
        try:
            yield public, control
        finally:
            path.unlink(missing_ok=True)


def serve(public: socket.socket, control: socket.socket) -> None:
    """Hand out the public socket until the process is terminated.

    Nothing is read from the peers and one byte is written, so none of them can block this.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    # The peer has ended, or sends something, which no gateway does.
                    peer: socket.socket = key.data
                    selector.unregister(peer)
                    peer.close()
                    continue
                peer, _address = control.accept()
                selector.register(peer, selectors.EVENT_READ, peer)
                with suppress(OSError):
                    socket.send_fds(peer, [b"\0"], [public.fileno()])


def receive(path: str, seconds: float = RECEIVE_SECONDS) -> tuple[int, socket.socket]:
    """Fetch the public socket; return its descriptor, and the connection that ends with its holder.

    Retries for `seconds`, since both may just be starting; then raises OSError.
    """
    deadline = time.monotonic() + seconds
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(5)
            connection.connect(path)
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
            if not descriptors:
                raise ConnectionResetError(f"{path}: closed without handing over a socket")
        except OSError:
            connection.close()
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)
        else:
            connection.settimeout(None)
            return descriptors[0], connection


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path = os.environ.get("LISTENER_SOCKET")
    if not path:
        fail("LISTENER_SOCKET is not set")
    host = os.environ.get("GATEWAY_BIND") or "127.0.0.1"
    port = os.environ.get("GATEWAY_PORT") or "8503"
    try:
        with bound(host, int(port), Path(path)) as (public, control):
            serve(public, control)
    except (OSError, ValueError) as problem:
        fail(f"cannot listen on {host}:{port} and {path}: {problem}")


def fail(message: str) -> NoReturn:
    from promptly.runtime import logs

    logs.fail(message)


if __name__ == "__main__":
    main()
