"""llama-server: small calls over urllib3, and streamed answers over a socket of our own.

Only the stream avoids an HTTP library's reader: its buffers between socket and caller lose bytes
when a wait is interrupted, and it would use half of the CPU time that a chunk may cost. httptools
parses. llama-server ends the connection of a streamed answer; those of others are kept.
"""

import contextlib
import socket
import ssl
import time
from typing import Any
from urllib.parse import quote, urlsplit

import httptools
import orjson
import urllib3

from promptly.clients.connections import (
    CLOSED,
    SEND_TIMEOUT_SECONDS,
    Connection,
    Connector,
    Socket,
    send,
)
from promptly.clients.kept_connections import Exchange, KeptConnections
from promptly.runtime.readiness import Readiness
from promptly.secret import Secret

RECEIVE_BYTES = 16 * 1024
BUSY_BYTES = 4 * 1024
MAX_ERROR_BYTES = 64 * 1024
ERROR_TIMEOUT_SECONDS = 5

_NO_CONNECTION = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
)


class LlamaError(Exception):
    """llama-server did not answer; the text contains nothing of the request."""


class ConnectFailed(LlamaError):
    """llama-server was unreachable: it has seen nothing of the request."""


class LlamaClient:
    """Client of one llama-server, or of one `model` of a router.

    A router finds the model in the URL of a GET and in the body of a POST, which has to be a JSON
    object with at least one field. It is asked not to load the model, whatever its own default.
    """

    def __init__(
        self, base_url: str, api_key: Secret, connect_timeout_seconds: float, model: str = ""
    ) -> None:
        self.base_url = base_url
        self._api_key = api_key
        self._query = f"?model={quote(model, safe='')}&autoload=false" if model else ""
        # Instead of a body's first byte.
        self._opening = b'{"model":%b,' % orjson.dumps(model) if model else b""
        self.connect_timeout_seconds = connect_timeout_seconds
        self._http = urllib3.PoolManager(maxsize=4, retries=False, headers=self.headers())
        # For bodies: its connections end with their first answer.
        self._single_use = urllib3.PoolManager(
            maxsize=4, retries=False, headers={**self.headers(), "Connection": "close"}
        )
        parts = urlsplit(base_url)
        is_tls = parts.scheme == "https"
        self._connector = Connector(
            parts.hostname or "localhost",
            parts.port or (443 if is_tls else 80),
            ssl.create_default_context() if is_tls else None,
            connect_timeout_seconds,
        )
        self._kept = KeptConnections()
        lines = [
            f"Host: {parts.netloc.rpartition('@')[2]}",
            *(f"{name}: {value}" for name, value in self.headers().items()),
        ]
        self._path = parts.path
        self._head = "\r\n".join(lines)

    def of_model(self, model: str) -> "LlamaClient":
        """Return a client of one model of this router."""
        return LlamaClient(self.base_url, self._api_key, self.connect_timeout_seconds, model)

    def headers(self) -> dict[str, str]:
        """Return all headers sent upstream; the client's are never forwarded."""
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key.reveal()}"
        return headers

    def call(
        self, method: str, path: str, body: bytes | None = None, *, timeout_seconds: float = 5
    ) -> tuple[int, Any]:
        """Return status and decoded JSON of a small call; raises LlamaError without an answer."""
        timeout = urllib3.Timeout(connect=self.connect_timeout_seconds, read=timeout_seconds)
        try:
            if body is not None:
                if self._opening:
                    body = self._opening + body[1:]
                # It may be fatal to the server, so it is sent once, on a connection of its own.
                answer = self._request(self._single_use, method, path, body, timeout)
            else:
                try:
                    answer = self._request(self._http, method, path, None, timeout)
                except urllib3.exceptions.ProtocolError:
                    # llama-server closes an idle connection after five seconds, perhaps just now.
                    self._http.clear()
                    answer = self._request(self._http, method, path, None, timeout)
            return answer.status, orjson.loads(answer.data)
        except _NO_CONNECTION as problem:
            raise ConnectFailed(type(problem).__name__) from problem
        except (urllib3.exceptions.HTTPError, orjson.JSONDecodeError) as problem:
            raise LlamaError(type(problem).__name__) from problem

    def _request(
        self,
        pool: urllib3.PoolManager,
        method: str,
        path: str,
        body: bytes | None,
        timeout: urllib3.Timeout,
    ) -> urllib3.BaseHTTPResponse:
        return pool.request(
            method,
            self.base_url + path + self._query,
            body=body,
            timeout=timeout,
            retries=False,
            redirect=False,
        )

    def stream(self, path: str, body: bytes) -> "LlamaStream":
        """Send a request and return its answer as a stream.

        Raises ConnectFailed, or LlamaError if the connection breaks or stalls while sending.
        """
        head, rest = self._request_parts(path, body, "Connection: close\r\n")
        connection = self._connect()
        _send(connection, head, rest)
        return LlamaStream(connection.socket)

    def post(self, path: str, body: bytes) -> "LlamaStream":
        """Do as `stream`, for an answer of a known length, whose connection is kept afterwards.

        Not for streamed answers: llama-server announces to keep their connections, and closes them.
        """
        head, rest = self._request_parts(path, body, "")
        sent_at = time.monotonic()
        try:
            addresses = [info[4] for info in self._connector.addresses()]
        except OSError as problem:
            raise ConnectFailed(type(problem).__name__) from problem
        kept = self._kept.take(addresses)
        if kept is not None:
            try:
                send(kept.connection.socket, head, rest)
            except OSError as problem:
                kept.connection.socket.close()
                if isinstance(problem, TimeoutError):
                    raise LlamaError(type(problem).__name__) from problem
                # The server has not got all of the request: nothing was done with it.
            else:
                exchange = Exchange(kept.connection, self._kept, kept.answers, sent_at)
                return LlamaStream(kept.connection.socket, exchange)
        connection = self._connect()
        _send(connection, head, rest)
        return LlamaStream(connection.socket, Exchange(connection, self._kept, 0, sent_at))

    def _request_parts(
        self, path: str, body: bytes, header: str
    ) -> tuple[bytes, bytes | memoryview]:
        opening = self._opening
        size = len(opening) + len(body) - 1 if opening else len(body)
        head = f"POST {self._path}{path}{self._query} HTTP/1.1\r\n{self._head}\r\n{header}"
        start = f"{head}Content-Length: {size}\r\n\r\n".encode("latin-1") + opening
        return start, memoryview(body)[1:] if opening else body

    def _connect(self) -> Connection:
        try:
            return self._connector.connect()
        except OSError as problem:
            raise ConnectFailed(type(problem).__name__) from problem


def _send(connection: Connection, head: bytes, body: bytes | memoryview) -> None:
    try:
        send(connection.socket, head, body)
    except OSError as problem:
        connection.socket.close()
        raise LlamaError(type(problem).__name__) from problem


class LlamaStream:
    """The answer of llama-server to one request, as its bytes arrive."""

    __slots__ = (
        "_busy",
        "_chunks",
        "_exchange",
        "_parser",
        "_readiness",
        "_seconds",
        "_socket",
        "_waits",
        "cancelled",
        "complete",
        "is_reused",
        "on_header",
        "on_message_begin",
        "status",
    )

    def __init__(self, connection: Socket, exchange: Exchange | None = None) -> None:
        # Whether the connection has had other answers: it may break because of its age.
        self.is_reused = exchange is not None and exchange.is_reused
        self._exchange = exchange
        if exchange is not None:
            self.on_header = exchange.on_header
            self.on_message_begin = exchange.on_message_begin
        self.status: int | None = None
        self.cancelled = False
        self._socket = connection
        self._seconds = float(SEND_TIMEOUT_SECONDS)
        self._readiness: Readiness | None = None
        # Under TLS bytes may be buffered in the library, where epoll does not see them.
        self._waits = not isinstance(connection, ssl.SSLSocket)
        # The last read was so large that more data is probably there: read without waiting.
        self._busy = False
        self._chunks: list[bytes] = []
        # Whether all of the answer has been received.
        self.complete = False
        self._parser: Any = httptools.HttpResponseParser(self)

    # Callbacks of httptools.

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        # More than the answer is nobody's.
        if not self.complete:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        self.complete = True

    def wait_at_most(self, seconds: float) -> None:
        """Set the timeout of every following `read`."""
        self._seconds = seconds
        if not self._waits:
            self._socket.settimeout(seconds)
        elif self._readiness is not None:
            self._readiness.wait_at_most(seconds)

    def read(self) -> bytes | None:
        """Return the next bytes of the body, b"" if this read had none of it, None at its end.

        Raises TimeoutError if nothing arrived in time (reading may continue), LlamaError if the
        connection broke or ended before the answer did.
        """
        if self.complete:
            return None
        try:
            if self._waits and not self._busy:
                readiness = self._readiness or self._register()
                if not readiness.wait():
                    raise TimeoutError
            data = self._socket.recv(RECEIVE_BYTES)
        except TimeoutError:
            raise
        except BlockingIOError:
            # There was no data after all.
            self._busy = False
            return b""
        except OSError as problem:
            raise LlamaError(type(problem).__name__) from problem
        if not data:
            raise LlamaError("ended early")
        self._busy = len(data) >= BUSY_BYTES
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as problem:
            raise LlamaError("not HTTP") from problem
        chunks = self._chunks
        if not chunks:
            return None if self.complete else b""
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return body

    def _register(self) -> Readiness:
        self._socket.setblocking(False)
        self._readiness = Readiness(self._socket.fileno())
        self._readiness.wait_at_most(self._seconds)
        return self._readiness

    def read_error(self, body: bytes) -> dict[str, Any]:
        """Read on from `body` and return the answer's error object; empty if it has none."""
        self.wait_at_most(ERROR_TIMEOUT_SECONDS)
        try:
            while len(body) < MAX_ERROR_BYTES and (data := self.read()) is not None:
                body += data
            error = orjson.loads(body)["error"]
        except (TimeoutError, LlamaError, orjson.JSONDecodeError, KeyError, TypeError):
            return {}
        return error if isinstance(error, dict) else {}

    def cancel(self) -> None:
        """Make upstream stop, without blocking; data it has already sent can still be read."""
        if not self.cancelled:
            self.cancelled = True
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the use of the connection; idempotent."""
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None
        self._waits = False
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            self._socket.close()
        else:
            exchange.end(is_complete=self.complete and self.status == 200 and not self.cancelled)
            # It may be kept, and a late `cancel` must not end another's request.
            self._socket = CLOSED
        # It refers to this stream: the two would wait for the garbage collector.
        self._parser = None
