"""The WSGI environ of a request (PEP 3333), copied from that of its connection.

It is the one that gunicorn builds, without parts that belong to a proxy (TLS, HTTP/2, the PROXY
protocol, SCRIPT_NAME) or that nothing here uses (`wsgi.early_hints`).
"""

from typing import Any

from gevent.socket import socket
from gunicorn import util

from promptly.runtime.client_connection import Request

Environ = dict[str, Any]

_UNPREFIXED = frozenset({"CONTENT-TYPE", "CONTENT-LENGTH"})


def of_listener(common: Environ, listener: socket) -> Environ:
    """Return the part that all requests of a listener share; `common` is that of the process."""
    name = listener.getsockname()
    # A Unix socket has neither; it is private, and its clients are on this machine.
    server, port = name[:2] if isinstance(name, tuple) else ("localhost", "")
    return {
        **common,
        "SERVER_NAME": server,
        "SERVER_PORT": str(port),
        "SCRIPT_NAME": "",
        "wsgi.url_scheme": "http",
    }


def of_connection(listener: Environ, client: socket, peer: Any) -> Environ:
    """Return the part that all requests of a connection share."""
    address = (
        {"REMOTE_ADDR": peer[0], "REMOTE_PORT": str(peer[1])}
        if isinstance(peer, tuple)
        else {"REMOTE_ADDR": ""}
    )
    return {**listener, **address, "gunicorn.socket": client}


def of_request(connection: Environ, request: Request) -> Environ:
    """Return the environ of a request."""
    major, minor = request.version
    path = request.path
    environ = connection.copy()
    environ["wsgi.input"] = request.body
    environ["REQUEST_METHOD"] = request.method
    environ["QUERY_STRING"] = request.query
    environ["RAW_URI"] = request.uri
    environ["SERVER_PROTOCOL"] = f"HTTP/{major}.{minor}"
    environ["PATH_INFO"] = util.unquote_to_wsgi_str(path) if "%" in path else path
    # Joined at the end: one by one, the growing value would be copied each time.
    repeated: dict[str, list[str]] = {}
    for name, value in request.headers:
        key = name.replace("-", "_")
        if name not in _UNPREFIXED:
            key = f"HTTP_{key}"
        if key in environ:
            repeated.setdefault(key, [environ[key]]).append(value)
        else:
            environ[key] = value
    for key, values in repeated.items():
        environ[key] = ",".join(values)
    return environ
