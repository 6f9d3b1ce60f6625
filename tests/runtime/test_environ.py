"""The environ of a request is the one that gunicorn would build."""

from collections.abc import Iterator
from typing import Any

import pytest
from gevent import socket
from gunicorn.config import Config
from gunicorn.http import wsgi

from promptly.runtime import environ
from promptly.runtime.client_connection import ClientConnection, ParserSettings, Request
from promptly.runtime.idle_connections import IdleConnections

PEER = ("198.51.100.7", 4711)

# Parts that gunicorn adds and nothing here uses.
NOT_OURS = {"wsgi.early_hints"}


@pytest.fixture(params=["fast", "python"])
def configuration(request: pytest.FixtureRequest) -> Config:
    configuration = Config()
    configuration.set("http_parser", request.param)
    configuration.set("forwarded_allow_ips", "")
    configuration.set("forwarder_headers", "")
    return configuration


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener


def parse(configuration: Config, sent: bytes) -> tuple[Request, socket.socket]:
    client, server = socket.socketpair()
    with client:
        client.sendall(sent)
        settings = ParserSettings(configuration)
        connection = ClientConnection(settings, server, PEER, IdleConnections())
        request = connection.next_request()
        connection.close()
    assert request is not None
    return request, server


def of(configuration: Config, listener: socket.socket, sent: bytes) -> tuple[Any, Any]:
    """Return our environ of a request, and gunicorn's."""
    request, server = parse(configuration, sent)
    with server:
        common = wsgi.base_environ(configuration)
        shared = environ.of_connection(environ.of_listener(common, listener), server, PEER)
        ours = environ.of_request(shared, request)
        _, theirs = wsgi.create(request, server, PEER, listener.getsockname(), configuration)
    # Each call makes a new one.
    assert type(ours.pop("wsgi.errors")) is type(theirs.pop("wsgi.errors"))
    return ours, {name: value for name, value in theirs.items() if name not in NOT_OURS}


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST /v1/chat/completions?a=b&c HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: 2\r\n"
        b"Content-Type: application/json\r\nAuthorization: Bearer x\r\n\r\n{}",
        b"GET /a%20b/%C3%A4%2f?%20 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://b/c HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\nX-A:3\r\nX-B: \xe9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nScript_Name: /x\r\nScript-Name: /x\r\n"
        b"X-Forwarded-Proto: https\r\nX_Forwarded_For: 1.2.3.4\r\nContent_Length: 7\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_it_is_gunicorns(configuration: Config, listener: socket.socket, sent: bytes) -> None:
    ours, theirs = of(configuration, listener, sent)
    assert ours == theirs


def test_requests_do_not_share_it(listener: socket.socket) -> None:
    shared = environ.of_listener(wsgi.base_environ(Config()), listener)
    request, server = parse(Config(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    with server:
        environ.of_request(shared, request)["promptly.left"] = "behind"
        assert "promptly.left" not in environ.of_request(shared, request)


def test_a_unix_socket_has_no_addresses() -> None:
    client, server = socket.socketpair()
    with client, server:
        shared = environ.of_connection(environ.of_listener({}, server), server, "")
    assert (shared["SERVER_NAME"], shared["REMOTE_ADDR"]) == ("localhost", "")
    assert "REMOTE_PORT" not in shared
