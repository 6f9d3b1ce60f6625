"""A small HTTP/1.1 server with one thread per connection, and the routes it serves."""

import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import orjson

MAX_BODY_BYTES = 1024 * 1024
IDLE_SECONDS = 30.0


@dataclass(slots=True)
class Request:
    """One complete request. Header names are in lower case."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes
    values: dict[str, str] = field(default_factory=dict)  # path parameters of the route's template


@dataclass(slots=True)
class Answer:
    """The answer to a request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Cut(Exception):
    """Close the connection without an answer."""


Handler = Callable[[Request], Answer]


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Return a JSON answer."""
    kind = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(orjson.dumps(value, option=orjson.OPT_INDENT_2), status, kind | (headers or {}))


def see_other(address: str) -> Answer:
    """Return a redirect to another page."""
    return Answer(status=303, headers={"Location": address})


class Routes:
    """Handlers by method and path; ``{name}`` in a template matches one segment."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []

    def add(self, method: str, template: str, handler: Handler) -> None:
        """Register the handler of a path template."""
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)
        self._routes.append((method, re.compile(pattern), handler))

    def find(self, request: Request) -> Handler | None:
        """Return a request's handler and set ``request.values``; None if no route matches."""
        for method, pattern, handler in self._routes:
            if method == request.method and (match := pattern.fullmatch(request.path)):
                request.values = match.groupdict()
                return handler
        return None


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    server: "Server"

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            self._answer(Answer(status=413))
            return
        parts = urlsplit(self.path)
        request = Request(
            self.command,
            parts.path,
            parse_qsl(parts.query, keep_blank_values=True),
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        try:
            answer = self.server.handler(request)
        except Cut:
            self.close_connection = True
            return
        self._answer(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _serve

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the records hold every request."""


class Server(ThreadingHTTPServer):
    """Serves ``handler`` on 127.0.0.1 once started; port 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128
    # Raised on a connection that the client has closed.
    _LEFT: ClassVar[tuple[type[OSError], ...]] = (ConnectionError, TimeoutError, socket.timeout)

    handler: Handler

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.port = int(self.server_address[1])

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve in a background thread."""
        threading.Thread(target=self.serve_forever, args=(0.2,), daemon=True).start()

    def stop(self) -> None:
        """Stop accepting connections; those being served run to their end."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report our own errors; ignore clients that disconnected."""
        if not isinstance(sys.exc_info()[1], self._LEFT):
            super().handle_error(request, client_address)


def first_values(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the values of a form or query, the first one of each name."""
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def form(request: Request) -> dict[str, str]:
    """Return the values of a submitted form."""
    return first_values(parse_qsl(request.body.decode(), keep_blank_values=True))
