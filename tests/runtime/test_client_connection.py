"""A refusal always arrives, what was refused is discarded, and nobody else waits for that."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import urllib3
from gunicorn.http.errors import InvalidChunkSize
from gunicorn.http.unreader import IterUnreader

from promptly.runtime import client_connection
from promptly.runtime.client_connection import ChunkedReader
from promptly.runtime.client_reader import DISCARD_BYTES
from tests.support.books import wait_for
from tests.support.raw_http import RawClient, ask
from tests.support.servers import Gateway
from tests.support.stack import Stack

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
MEGABYTE = b"x" * 1_000_000


@pytest.fixture(scope="module", params=["fast", "python"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway with one worker and neither PostgreSQL nor Redis, for each of the two parsers."""
    with Stack(tmp_path_factory.mktemp("edge")) as stack:
        yield stack.gateway(GUNICORN_CMD_ARGS=f"--http-parser {request.param}")


@pytest.mark.parametrize("route", [CHAT, HEALTH], ids=["refused", "not asked for"])
@pytest.mark.parametrize("length", [8, 32])
def test_a_response_arrives_before_the_body_has_been_sent(
    gateway: Gateway, route: bytes, length: int
) -> None:
    with RawClient(gateway.port) as client:
        client.send(route + b"Connection: close\r\n")
        client.send(b"Content-Length: %d\r\n\r\n" % (length * len(MEGABYTE)))
        for _ in range(length):
            client.send(MEGABYTE)
        status, headers, _ = client.answer()
        assert status == (401 if route == CHAT else 200)
        assert headers["connection"] == "close"
        assert client.rest() == b""


@pytest.mark.parametrize("chunked", [False, True])
def test_the_connection_can_be_used_after_a_refused_body(gateway: Gateway, chunked: bool) -> None:
    with RawClient(gateway.port) as client:
        if chunked:
            client.send(CHAT + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(4):
                client.send(b"%x\r\n%b\r\n" % (len(MEGABYTE), MEGABYTE))
            client.send(b"0\r\nA: trailer\r\n\r\n")
        else:
            client.send(CHAT + b"Content-Length: %d\r\n\r\n" % (4 * len(MEGABYTE)))
            client.send(4 * MEGABYTE)
        client.send(HEALTH + b"\r\n")
        assert client.answer()[0] == 401
        assert client.answer()[0] == 200


def test_more_than_the_bound_is_not_waited_for(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(CHAT + b"Content-Length: %d\r\n\r\n" % (DISCARD_BYTES + 1))
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (401, "close")
        # Without half a megabyte's progress in two seconds, too.
        client.send(MEGABYTE)
        assert client.rest() == b""


def test_bytes_that_are_no_chunks_end_the_connection(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(HEALTH + b"Transfer-Encoding: chunked\r\n\r\n" + b"no chunk\r\n" + HEALTH)
        assert client.answer()[0] == 200
        with suppress(ConnectionResetError):
            assert client.rest() == b""


def test_others_are_served_while_a_body_is_discarded(gateway: Gateway) -> None:
    """One worker; it used to read a refused body to its end before it served anybody else."""
    over = threading.Event()
    sent = []

    def flood() -> None:
        while not over.is_set():
            with RawClient(gateway.port) as client, suppress(OSError):
                client.send(CHAT + b"Content-Length: 1000000000000\r\n\r\n")
                while not over.is_set():
                    client.send(MEGABYTE)
                    sent.append(len(MEGABYTE))

    threads = [threading.Thread(target=flood) for _ in range(3)]
    for thread in threads:
        thread.start()
    with urllib3.HTTPConnectionPool("127.0.0.1", gateway.port, timeout=10) as pool:
        for _ in range(30):
            assert pool.request("GET", "/health", retries=False).status == 200
    over.set()
    for thread in threads:
        thread.join()
    assert sum(sent) > 2 * len(MEGABYTE)


def test_pipelined_requests_are_all_answered(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send((HEALTH + b"\r\n") * 200)
        assert [client.answer()[0] for _ in range(200)] == [200] * 200


def test_a_refusal_comes_without_100_continue(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(CHAT + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (401, "close")
        assert client.rest() == b""


def test_100_continue_comes_when_the_body_is_read(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(b"POST /session HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n")
        client.send(b"Content-Type: application/x-www-form-urlencoded\r\n")
        client.send(b"Content-Length: 7\r\n\r\n")
        assert client.answer()[0] == 100
        client.send(b"key=sk-")
        status, headers, _ = client.answer()
        assert (status >= 400, headers["connection"]) == (True, "keep-alive")


def test_100_continue_is_not_sent_for_a_request_without_a_body(gateway: Gateway) -> None:
    answer = ask(gateway.port, HEALTH + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"a: b\r\n" * 101, 431),
        (b"a: " + b"b" * 16_381 + b"\r\n", 431),
        ((b"a: " + b"b" * 16_000 + b"\r\n") * 9, 431),
        ((b"a: " + b"b" * 16_000 + b"\r\n") * 7, 200),
    ],
    ids=["too many", "one too large", "too large together", "allowed"],
)
def test_headers_are_bounded(gateway: Gateway, headers: bytes, status: int) -> None:
    answer = ask(gateway.port, HEALTH + b"Connection: close\r\n" + headers + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_trailers_are_bounded(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(HEALTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
        assert client.answer()[0] == 200
        with suppress(OSError):
            for _ in range(40):
                client.send(b"a: " + b"b" * 16_000 + b"\r\n")
            client.send(b"\r\n" + HEALTH + b"\r\n")
            assert client.rest() == b""


def test_chunks_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_connection, "MOST_CHUNKS", 3)

    class Limits:
        limit_request_field_size = 0
        max_buffer_headers = 0

    def read(chunks: int) -> bytes:
        sent = IterUnreader([b"1\r\nx\r\n"] * chunks + [b"0\r\n\r\n"])
        received: bytes = ChunkedReader(Limits(), sent).read(100)  # type: ignore[arg-type]
        return received

    assert read(2) == b"xx"
    with pytest.raises(InvalidChunkSize):
        read(3)


@pytest.mark.parametrize("name", [b"SCRIPT_NAME", b"SCRIPT-NAME"])
def test_no_peer_is_a_proxy_to_gunicorn(gateway: Gateway, name: bytes) -> None:
    """Not even one on loopback, which gunicorn trusts by default."""
    request = b"GET /docs/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    answer = ask(gateway.port, request + name + b": /docs\r\nX-Forwarded-Proto: https\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"/docs/docs" not in answer
    assert b"strict-transport-security" not in answer.lower()
    proxied = ask(gateway.port, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + HEALTH + b"\r\n")
    assert proxied.startswith(b"HTTP/1.1 400 ")


def test_no_bytes_of_a_bad_request_come_back(gateway: Gateway) -> None:
    """Neither in the response nor in the log."""
    key = b"the-admin-key-0123456789"
    bad = [
        b"GET /admin?key=" + key + b"&q=\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[" + key + b"/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEALTH + b"Expect: " + key + b"\r\n\r\n",
        HEALTH + key + b"\r\n\r\n",
        HEALTH + key + b"\x01: a\r\n\r\n",
        HEALTH + b"Transfer-Encoding: " + key + b"\r\n\r\n",
        HEALTH + b"Content-Length: " + key + b"\r\n\r\n",
        HEALTH + b"A: " + key + b"\n\r\n\r\n",
        key + b" / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/" + key + b"\r\n\r\n",
        b"GET /" + key * 400 + b" HTTP/1.1\r\n\r\n",
    ]
    for request in bad:
        answer = ask(gateway.port, request)
        assert answer.startswith(b"HTTP/1.1 4"), request
        assert key not in answer
    log = gateway.log_text()
    assert log.count('"message":"invalid request"') >= len(bad)
    assert key.decode() not in log


def test_every_line_of_gunicorn_is_json(gateway: Gateway) -> None:
    """Also of its master, here about a worker that was killed."""
    [worker] = gateway.worker_pids()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: "SIGKILL" in gateway.log_text(), "the master's message", 30)
    lines = [json.loads(line) for line in gateway.log_text().splitlines()]
    assert "gunicorn.error" in {line["logger"] for line in lines}
