"""Reuse of upstream connections: it loses no request, and brings none another one's answer."""

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from promptly.clients.connections import Connection
from promptly.clients.kept_connections import (
    MAX_IDLE,
    Exchange,
    KeptConnection,
    KeptConnections,
    announced,
)
from promptly.clients.llama import LlamaClient, LlamaError
from promptly.secret import Secret
from sandbox.llama import SimulatedLlama
from tests.clients.unreliable_server import ANNOUNCED, UnreliableServer, echo, read_all
from tests.proxies.nginx import Certificate

EMBEDDINGS = "/v1/embeddings"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(tmp_path_factory.mktemp("llama"), embeddings=True).start()
    yield server
    server.stop()


@pytest.fixture
def llama(running: SimulatedLlama) -> SimulatedLlama:
    running.clear()
    return running


@pytest.fixture
def client(llama: SimulatedLlama) -> LlamaClient:
    return LlamaClient(llama.url, Secret(""), 5)


def embed(client: LlamaClient, length: int) -> bool:
    """Embed a text of this length, check its answer; return whether the connection was reused."""
    body = orjson.dumps({"input": "x" * length})
    with closing(client.post(EMBEDDINGS, body)) as stream:
        answer = orjson.loads(read_all(stream))
        assert stream.status == 200
        assert answer["data"][0]["embedding"][0] == (length * 31 % 100) / 100.0
        return stream.is_reused


def wait_for_event(client: LlamaClient) -> None:
    """Wait until the server has closed the client's idle connection, or sent something."""
    for kept in client._kept._idle:
        assert select.select([kept.connection.socket], [], [], 10)[0]


def test_a_connection_is_reused(client: LlamaClient, llama: SimulatedLlama) -> None:
    assert [embed(client, length) for length in range(1, 6)] == [False, True, True, True, True]
    assert "connection" not in llama.requests()[0]["headers"]


def test_a_streamed_answer_ends_its_connection(client: LlamaClient) -> None:
    embed(client, 1)
    body = orjson.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True})
    with closing(client.stream("/v1/chat/completions", body)) as stream:
        read_all(stream)
        assert not stream.is_reused
    # The one of before is untouched.
    assert embed(client, 2)


@pytest.mark.parametrize("how", ["close", "reset", "half_close", "stray"])
def test_a_server_that_breaks_its_promise(
    client: LlamaClient, llama: SimulatedLlama, how: str
) -> None:
    llama.set_faults(afterwards=how, times=1)
    assert not embed(client, 1)
    wait_for_event(client)
    assert not embed(client, 2)
    assert embed(client, 3)


def test_a_server_that_closes_when_the_request_comes(
    client: LlamaClient, llama: SimulatedLlama
) -> None:
    llama.set_faults(afterwards="drop", times=1)
    embed(client, 1)
    with closing(client.post(EMBEDDINGS, orjson.dumps({"input": "xx"}))) as stream:
        with pytest.raises(LlamaError):
            read_all(stream)
        assert (stream.is_reused, stream.status) == (True, None)
    assert not embed(client, 3)


def test_a_large_request_to_a_server_that_closes_meanwhile(
    client: LlamaClient, llama: SimulatedLlama
) -> None:
    """The rest of a request that the server has not got whole goes over a new connection."""
    llama.set_faults(afterwards="drop", times=1)
    embed(client, 1)
    large = orjson.dumps({"input": "x" * 20, "user": "u" * 16_000_000})
    with closing(client.post(EMBEDDINGS, large)) as stream:
        assert orjson.loads(read_all(stream))["data"]
        assert not stream.is_reused


def test_a_server_that_restarts(client: LlamaClient, llama: SimulatedLlama) -> None:
    embed(client, 1)
    llama.restart()
    assert not embed(client, 2)
    assert embed(client, 3)


def test_a_refusal_ends_its_connection(client: LlamaClient, llama: SimulatedLlama) -> None:
    embed(client, 1)
    llama.set_faults(status=503, times=1)
    with closing(client.post(EMBEDDINGS, b'{"input":"x"}')) as stream:
        read_all(stream)
    assert not embed(client, 2)


def test_a_cancelled_request_ends_its_connection(client: LlamaClient) -> None:
    stream = client.post(EMBEDDINGS, b'{"input":"x"}')
    read_all(stream)
    stream.cancel()
    stream.close()
    assert not embed(client, 1)


def test_an_answer_that_was_not_read_ends_its_connection(client: LlamaClient) -> None:
    client.post(EMBEDDINGS, b'{"input":"x"}').close()
    assert not embed(client, 1)


def test_a_late_cancel_does_not_touch_the_next_request(client: LlamaClient) -> None:
    first = client.post(EMBEDDINGS, b'{"input":"x"}')
    read_all(first)
    first.close()
    second = client.post(EMBEDDINGS, b'{"input":"xx"}')
    first.cancel()
    first.close()
    assert second.is_reused
    assert b"embedding" in read_all(second)
    second.close()


TWO = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
ANSWERS = {
    "nothing announced": b"Content-Length: 2\r\n\r\n{}",
    "no time announced": b"Keep-Alive: max=100\r\nContent-Length: 2\r\n\r\n{}",
    "an end announced": ANNOUNCED + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
    "one answer only": b"Keep-Alive: timeout=5, max=1\r\nContent-Length: 2\r\n\r\n{}",
    "no length": ANNOUNCED + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "the start of another answer": ANNOUNCED + b"Content-Length: 2\r\n\r\n{}HTTP",
    "two answers": ANNOUNCED + b"Content-Length: 2\r\n\r\n{}" + TWO,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_connections_that_are_not_kept(answer: bytes) -> None:
    with UnreliableServer(lambda _: b"HTTP/1.1 200 OK\r\n" + answer) as server:
        client = LlamaClient(server.url, Secret(""), 5)
        for _ in range(2):
            with closing(client.post(EMBEDDINGS, b"{}")) as stream:
                assert read_all(stream) == b"{}"
                assert not stream.is_reused


@pytest.mark.nginx  # whose tests need openssl as well
def test_connections_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of TLS itself, such as session tickets, are no reason to leave a connection."""
    certificate = Certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.file, certificate.key)
    idle: Iterator[float] = iter([10.0, 10.0, 0.0001, 10.0])
    with UnreliableServer(echo, tls=tls, idle_seconds=lambda: next(idle)) as server:
        client = LlamaClient(server.url, Secret(""), 5)
        reused = []
        for size in (3, 100_000, 5, 7):
            body = b"x" * size
            with closing(client.post(EMBEDDINGS, body)) as stream:
                assert read_all(stream) == body
                reused.append(stream.is_reused)
            if size == 5:
                wait_for_event(client)
    assert reused == [False, True, True, False]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"timeout=5, max=100", (5, 100)),
        (b"max=7,timeout=15", (15, 7)),
        (b"timeout=5", (5, 1_000_000)),
        (b"max=100", (0, 100)),
        (b"", (0, 1_000_000)),
    ],
)
def test_announcements(header: bytes, found: tuple[int, int]) -> None:
    assert announced(header) == found


@pytest.fixture
def pair() -> Iterator[Callable[[], socket.socket]]:
    """Factory of connected sockets, non-blocking."""
    opened: list[socket.socket] = []

    def make() -> socket.socket:
        near, far = socket.socketpair()
        opened.extend((near, far))
        near.setblocking(False)
        return near

    yield make
    for one in opened:
        one.close()


def test_a_connection_is_left_long_before_the_server_closes_it(
    pair: Callable[[], socket.socket],
) -> None:
    """The server's time runs from the request on: the answer may have been read much later."""
    kept = KeptConnections()
    for age, is_kept in ((0.0, True), (2.4, True), (2.6, False)):
        opened = pair()
        exchange = Exchange(Connection(opened, ("a",)), kept, 0, time.monotonic() - age)
        exchange.on_message_begin()
        exchange.on_header(b"Keep-Alive", b"timeout=5, max=100")
        exchange.on_header(b"Content-Length", b"2")
        exchange.end(is_complete=True)
        assert (kept.take([("a",)]) is not None) == is_kept
        assert (opened.fileno() >= 0) == is_kept


def test_the_last_kept_is_the_first_reused_and_the_oldest_ones_go(
    pair: Callable[[], socket.socket],
) -> None:
    kept = KeptConnections()
    opened = [pair() for _ in range(MAX_IDLE + 2)]
    for one in opened:
        kept.keep(KeptConnection(Connection(one, ("a",)), 1, time.monotonic() + 60))
    assert [one.fileno() >= 0 for one in opened] == [False] * 2 + [True] * MAX_IDLE
    found = [kept.take([("a",)]) for _ in range(MAX_IDLE + 1)]
    assert [one and one.connection.socket for one in found] == [
        *reversed(opened[-MAX_IDLE:]),
        None,
    ]


def test_an_address_that_the_name_has_no_more(pair: Callable[[], socket.socket]) -> None:
    kept, opened = KeptConnections(), pair()
    kept.keep(KeptConnection(Connection(opened, ("a",)), 1, time.monotonic() + 60))
    assert kept.take([("b",)]) is None
    assert opened.fileno() < 0


def test_idle_connections_end_with_their_pool(pair: Callable[[], socket.socket]) -> None:
    kept, opened = KeptConnections(), pair()
    kept.keep(KeptConnection(Connection(opened, ("a",)), 1, time.monotonic() + 60))
    del kept
    assert opened.fileno() < 0
