"""The client of llama-server, over the wire."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from promptly.clients.llama import LlamaClient, LlamaError, LlamaStream
from promptly.secret import Secret
from sandbox.llama import SimulatedLlama
from sandbox.ports import free_port
from tests.blueprints.v1.client import CHAT, sim

Answer = Callable[[socket.socket], object]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(tmp_path_factory.mktemp("llama"), api_key="secret").start()
    yield server
    server.stop()


@pytest.fixture
def llama(running: SimulatedLlama) -> SimulatedLlama:
    running.clear()
    return running


@pytest.fixture
def client(llama: SimulatedLlama) -> LlamaClient:
    return LlamaClient(llama.url, Secret("secret"), 5)


def body(directives: str, **fields: Any) -> bytes:
    asked = {"stream": True, "timings_per_token": True, **fields}
    return json.dumps({"messages": sim(directives), **asked}).encode()


def read_all(stream: LlamaStream) -> bytes:
    data = b""
    while (part := stream.read()) is not None:
        data += part
    return data


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], LlamaClient]]:
    """Factory of clients of a server that accepts one connection and passes it to `answer`."""
    listeners: list[socket.socket] = []

    def start(answer: Answer) -> LlamaClient:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                answer(connection)

        threading.Thread(target=run, daemon=True).start()
        return LlamaClient(f"http://127.0.0.1:{listener.getsockname()[1]}", Secret(""), 5)

    yield start
    for listener in listeners:
        listener.close()


def test_a_small_call(client: LlamaClient) -> None:
    status, props = client.call("GET", "/props")
    assert status == 200
    assert props["total_slots"] == 4
    status, count = client.call("POST", f"{CHAT}/input_tokens", body(""))
    assert (status, count["input_tokens"] > 0) == (200, True)


def test_a_refused_call(client: LlamaClient, llama: SimulatedLlama) -> None:
    status, error = LlamaClient(llama.url, Secret("wrong"), 5).call("GET", "/props")
    assert (status, error["error"]["code"]) == (401, 401)


def test_no_server() -> None:
    client = LlamaClient(f"http://127.0.0.1:{free_port()}", Secret(""), 2)
    with pytest.raises(LlamaError):
        client.call("GET", "/props")
    with pytest.raises(LlamaError):
        client.stream(CHAT, b"{}")


def test_a_call_that_is_not_answered(serve: Callable[[Answer], LlamaClient]) -> None:
    done = threading.Event()
    client = serve(lambda _: done.wait(20))
    with pytest.raises(LlamaError):
        client.call("GET", "/props", timeout_seconds=0.2)
    done.set()


def test_a_call_whose_answer_is_not_json(serve: Callable[[Answer], LlamaClient]) -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n<htm>"
    with pytest.raises(LlamaError):
        serve(lambda connection: connection.sendall(text)).call("GET", "/props")


def test_a_kept_connection_that_is_just_being_closed() -> None:
    """Reproduce a server with a keep-alive of five seconds that was asked every five seconds."""
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = LlamaClient(f"http://127.0.0.1:{listener.getsockname()[1]}", Secret(""), 5)

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(good)
                    # Read the next request, and close without an answer.
                    connection.recv(65536)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        assert [client.call("GET", "/props") for _ in range(2)] == [(200, {})] * 2
        # The client tries at most twice: nothing accepts the third connection.
        with pytest.raises(LlamaError):
            client.call("GET", "/props", timeout_seconds=0.2)
        server.join(10)


def test_a_stream(client: LlamaClient, llama: SimulatedLlama) -> None:
    stream = client.stream(CHAT, body("tokens=10 tag=one"))
    data = read_all(stream)
    assert stream.status == 200
    assert data.endswith(b"data: [DONE]\n\n")
    assert data.count(b"data: ") >= 6
    assert stream.read() is None
    stream.close()
    sent = llama.request("one")["headers"]
    assert sent["authorization"] == "Bearer secret"
    assert sent["connection"] == "close"


def test_a_refusal_and_its_error(client: LlamaClient) -> None:
    stream = client.stream(CHAT, body("status=503"))
    data = stream.read()
    while not data:
        data = stream.read()
    assert stream.status == 503
    assert stream.read_error(data)["message"] == "simulated refusal"
    stream.close()


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b'{"error": "x"}', b"{}", b"\xff"])
def test_an_error_that_is_none(serve: Callable[[Answer], LlamaClient], data: bytes) -> None:
    head = b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n" % len(data)
    client = serve(lambda connection: connection.sendall(head + data))
    with closing(client.stream(CHAT, b"{}")) as stream:
        assert stream.read_error(b"") == {}


def test_a_silence_is_not_the_end(client: LlamaClient) -> None:
    stream = client.stream(CHAT, body("tokens=10 stall_after=4 stall_s=0.5"))
    stream.wait_at_most(0.1)
    data, silences = b"", 0
    while True:
        try:
            part = stream.read()
        except TimeoutError:
            silences += 1
            continue
        if part is None:
            break
        data += part
    assert silences >= 2
    assert data.endswith(b"data: [DONE]\n\n")
    stream.close()


@pytest.mark.parametrize("fault", ["eof_after=3", "reset_after=3"])
def test_an_end_before_the_end(client: LlamaClient, fault: str) -> None:
    stream = client.stream(CHAT, body(f"tokens=10 {fault}"))
    with pytest.raises(LlamaError):
        read_all(stream)
    stream.close()


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-x\r\n\r\n"])
def test_an_answer_that_is_not_http(serve: Callable[[Answer], LlamaClient], text: bytes) -> None:
    client = serve(lambda connection: connection.sendall(text))
    with closing(client.stream(CHAT, b"{}")) as stream:
        with pytest.raises(LlamaError):
            read_all(stream)
        assert stream.status is None


def test_cancelling_stops_upstream_and_keeps_what_was_sent(
    client: LlamaClient, llama: SimulatedLlama
) -> None:
    stream = client.stream(CHAT, body("tokens=5000 delay_ms=2 tag=cut"))
    data = b""
    while data.count(b"predicted_n") < 20:
        data += stream.read() or b""
    stream.cancel()
    stream.cancel()
    # The simulator breaks off like the real server.
    with suppress(LlamaError):
        while (part := stream.read()) is not None:
            data += part
    record = llama.wait_for_end("cut")
    assert record["outcome"] == "client_closed"
    last = data[data.rfind(b'"predicted_n":') + 14 :].split(b",")[0]
    assert int(last) == record["completion_tokens"]
    stream.close()


def test_many_answers_at_once_do_not_mix(client: LlamaClient) -> None:
    streams = [client.stream(CHAT, body(f"tokens={n}")) for n in range(10, 14)]
    counts = [
        read_all(stream).rpartition(b'"predicted_n":')[2].split(b",")[0] for stream in streams
    ]
    assert counts == [b"10", b"11", b"12", b"13"]
    for stream in streams:
        stream.close()
