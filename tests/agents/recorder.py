"""A recording proxy: it passes HTTP on unchanged and keeps each request with the answer's status.

It sits between a program and the gateway, as nginx would, so that tests see which requests a
program sent, how often it retried, and the bodies of requests that the gateway refused.
"""

import http.client
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# These belong to one connection, and each of our two connections has its own.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade"}
TIMEOUT_SECONDS = 120.0
KEPT_BYTES = 4096


@dataclass
class Exchange:
    """One request and its answer; `status` is 0 while there is none."""

    method: str
    path: str
    body: bytes
    at: float = field(default_factory=time.monotonic)
    status: int = 0
    content_type: str = ""
    answer: bytes = b""  # its first bytes

    def __str__(self) -> str:
        return f"{self.method} {self.path} -> {self.status} {self.content_type}"


class Recorder:
    """The proxy in front of one gateway, on a free port of 127.0.0.1."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.exchanges: list[Exchange] = []
        # Called with each request before it is passed on.
        self.before: Callable[[Exchange], None] | None = None
        me = self

        class Handler(_Handler):
            recorder = me

        self._server = _Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def clear(self) -> None:
        self.exchanges.clear()
        self.before = None

    def generations(self) -> list[Exchange]:
        """Return the requests for answers, without those for models or counts."""
        ends = ("/chat/completions", "/responses", "/messages", "/completions")
        return [
            found
            for found in list(self.exchanges)
            if found.method == "POST" and urlsplit(found.path).path.endswith(ends)
        ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what went wrong, unless the program has only reset its connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    recorder: Recorder

    def _pass_on(self) -> None:
        exchange = Exchange(self.command, self.path, self._body())
        self.recorder.exchanges.append(exchange)
        if self.recorder.before is not None:
            self.recorder.before(exchange)
        headers = self._end_to_end(self.headers.items())
        address = urlsplit(self.recorder.target).netloc
        connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(self.command, self.path, exchange.body or None, headers)
            self._answer(connection.getresponse(), exchange)
        except (OSError, http.client.HTTPException):
            # The program or the gateway has gone; the other side learns it from its connection.
            self.close_connection = True
        finally:
            connection.close()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = _pass_on

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, response: http.client.HTTPResponse, exchange: Exchange) -> None:
        exchange.content_type = response.getheader("content-type", "")
        exchange.status = response.status
        self.send_response_only(response.status, response.reason)
        for name, value in self._end_to_end(response.getheaders()).items():
            self.send_header(name, value)
        length = response.getheader("content-length")
        if length is not None:
            self.send_header("content-length", length)
        elif response.status >= 200 and response.status not in (204, 304):
            self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while part := response.read1(65536):
            if len(exchange.answer) < KEPT_BYTES:
                exchange.answer += part
            self._write(part, chunked=length is None)
        if length is None and response.status not in (204, 304):
            self.wfile.write(b"0\r\n\r\n")

    def _write(self, part: bytes, *, chunked: bool) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)

    @staticmethod
    def _end_to_end(headers: Any) -> dict[str, str]:
        return {name: value for name, value in headers if name.lower() not in HOP_BY_HOP}

    def log_message(self, format: str, *args: Any) -> None:
        pass
