"""A Redis that answers as a test tells it, over connections that redis-py can set up."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType

import hiredis


class ScriptedRedis:
    """Answers each command with the bytes of `answer`, a thread for each connection.

    Where `answer` returns None it closes the connection, and with b"" it stays silent.
    """

    def __init__(
        self, answer: Callable[[list[bytes]], bytes | None], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._answer = answer
        self._tls = tls
        # Of all connections so far, in the order in which they were accepted.
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        scheme = "redis" if tls is None else "rediss"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/0?protocol=2"
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> "ScriptedRedis":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing alone would not wake the threads. The first one adds no more connections then.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(10)
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                self.connections.append(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        commands = hiredis.Reader()
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    answer = b"+OK\r\n" if command[0] == b"CLIENT" else self._answer(command)
                    if answer is None:
                        return
                    connection.sendall(answer)
