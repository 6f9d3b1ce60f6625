"""An HTTP server that answers as it is told, and leaves its connections when it wants."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType

from promptly.clients.llama import LlamaStream

ANNOUNCED = b"Keep-Alive: timeout=5, max=100\r\n"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class UnreliableServer:
    """Answers each request's body with the bytes of `answer`; a thread for each connection.

    It closes a connection that has been idle for `idle_seconds()` after an answer, whatever it
    announces.
    """

    def __init__(
        self,
        answer: Callable[[bytes], bytes],
        *,
        idle_seconds: Callable[[], float] = lambda: 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._answer = answer
        self._idle_seconds = idle_seconds
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "UnreliableServer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing alone would not wake the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True)
        with connection, contextlib.suppress(OSError):
            while (body := self._receive(connection)) is not None:
                connection.settimeout(self._idle_seconds())
                connection.sendall(self._answer(body))

    def _receive(self, connection: socket.socket) -> bytes | None:
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0 or len(data) < end + 4 + _length(data):
            part = connection.recv(65536)
            if not part:
                return None
            data += part
        return data[end + 4 :]


def _length(data: bytes) -> int:
    found = _LENGTH.search(data)
    return int(found[1]) if found else 0


def echo(body: bytes, announced: bytes = ANNOUNCED) -> bytes:
    head = b"HTTP/1.1 200 OK\r\n" + announced
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def read_all(stream: LlamaStream) -> bytes:
    data = b""
    while (part := stream.read()) is not None:
        data += part
    return data
