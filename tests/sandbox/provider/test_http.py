"""The HTTP server of the payment providers' stand-ins: cut connections, limits, no access log."""

import socket
from collections.abc import Iterator

import pytest
import requests

from sandbox.provider.http import MAX_BODY_BYTES, Answer, Cut, Request, Server


def serve(request: Request) -> Answer:
    if request.path == "/cut":
        raise Cut
    return Answer(request.body, 200, {"Content-Type": "text/plain"})


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(0)
    made.handler = serve
    made.start()
    yield made
    made.stop()


def test_a_cut_closes_the_connection_without_an_answer(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /cut HTTP/1.1\r\nHost: stripe\r\n\r\n")
        assert connection.recv(100) == b""


def test_a_body_that_is_too_large(server: Server) -> None:
    sizes = (MAX_BODY_BYTES, MAX_BODY_BYTES + 1)
    answers = [requests.post(server.url, data=b"x" * size, timeout=10) for size in sizes]
    assert [answer.status_code for answer in answers] == [200, 413]


def test_requests_are_not_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    assert requests.post(f"{server.url}/echo?a=b", data=b"c", timeout=10).text == "c"
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/cut", timeout=10)
    assert "werkzeug" not in {record.name for record in caplog.records}
