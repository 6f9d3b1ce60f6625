"""Werkzeug's HTTP server with one thread per connection, and the routes it serves."""

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson
import werkzeug
from werkzeug.serving import WSGIRequestHandler, make_server

MAX_BODY_BYTES = 1024 * 1024


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


class Cut(ConnectionError):
    """Close the connection without an answer.

    Werkzeug takes a ConnectionError for a client that is gone: it answers and logs nothing.
    """


Handler = Callable[[Request], Answer]


def json_answer(value: Any, status: int = 200) -> Answer:
    """Return a JSON answer."""
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(orjson.dumps(value, option=orjson.OPT_INDENT_2), status, headers)


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


class _Connection(WSGIRequestHandler):
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: the records hold every request."""

    def connection_dropped(
        self, error: BaseException, environ: dict[str, Any] | None = None
    ) -> None:
        # Otherwise, after a Cut, Werkzeug would wait for the connection's next request.
        self.close_connection = True


class Server:
    """Serves ``handler`` once started; port 0 takes a free one."""

    handler: Handler

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        application = werkzeug.Request.application(self._serve)
        self._server = make_server(
            host, port, application, threaded=True, request_handler=_Connection
        )
        self.port = self._server.port

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve in a background thread."""
        threading.Thread(target=self._server.serve_forever, args=(0.2,), daemon=True).start()

    def stop(self) -> None:
        """Stop accepting connections; those being served run to their end."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, given: werkzeug.Request) -> werkzeug.Response:
        given.max_content_length = MAX_BODY_BYTES
        query = parse_qsl(given.query_string.decode(), keep_blank_values=True)
        headers = {name.lower(): value for name, value in given.headers.items()}
        request = Request(given.method, given.path, query, headers, given.get_data())
        answer = self.handler(request)
        return werkzeug.Response(answer.body, answer.status, answer.headers)


def first_values(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the values of a form or query, the first one of each name."""
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def form(request: Request) -> dict[str, str]:
    """Return the values of a submitted form."""
    return first_values(parse_qsl(request.body.decode(), keep_blank_values=True))
