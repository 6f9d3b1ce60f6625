"""The recording proxy passes everything on and keeps what tests ask for."""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
import urllib3

from sandbox.llama import SimulatedLlama
from sandbox.llama.script import say
from tests.agents.recorder import Recorder
from tests.support.books import wait_for

CHAT = "/v1/chat/completions"


@pytest.fixture
def llama() -> Iterator[SimulatedLlama]:
    server = SimulatedLlama().start()
    yield server
    server.stop()


@pytest.fixture
def recorder(llama: SimulatedLlama) -> Iterator[Recorder]:
    proxy = Recorder(llama.url)
    proxy.start()
    yield proxy
    proxy.stop()


def ask(recorder: Recorder, **body: object) -> urllib3.BaseHTTPResponse:
    messages = [{"role": "user", "content": "hello"}]
    return urllib3.request("POST", recorder.url + CHAT, json={"messages": messages, **body})


def test_answers_pass_whole_and_streamed(recorder: Recorder, llama: SimulatedLlama) -> None:
    llama.set_script("hello", say("The harbour is open."))
    whole = ask(recorder).json()
    assert whole["choices"][0]["message"]["content"] == "The harbour is open."
    streamed = ask(recorder, stream=True)
    assert streamed.data.endswith(b"data: [DONE]\n\n")
    assert [found.status for found in recorder.generations()] == [200, 200]
    assert recorder.generations()[1].content_type == "text/event-stream"
    assert b'"stream":true' in recorder.generations()[1].body


def test_refusals_keep_their_body(recorder: Recorder) -> None:
    assert ask(recorder, messages=1).status == 400
    [found] = recorder.exchanges
    assert b"Expected 'messages' to be an array" in found.answer
    assert str(found) == f"POST {CHAT} -> 400 application/json; charset=utf-8"


def test_chunked_bodies_and_kept_connections(recorder: Recorder) -> None:
    request = (
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'8\r\n{"prompt\r\n8\r\n":"once"\r\n1\r\n}\r\n0\r\n\r\n'
    )
    address = recorder.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as connection:
        for _ in range(2):
            connection.sendall(request)
            received = b""
            while b'"usage"' not in received or not received.endswith(b"}"):
                received += connection.recv(65536)
    assert [found.body for found in recorder.generations()] == [b'{"prompt":"once"}'] * 2


def test_a_client_that_goes_takes_its_request_along(
    recorder: Recorder, llama: SimulatedLlama
) -> None:
    llama.set_faults(tokens=10_000, delay_ms=20)
    messages = [{"role": "user", "content": "hello"}]
    body = {"messages": messages, "stream": True}
    answer = urllib3.request("POST", recorder.url + CHAT, json=body, preload_content=False)
    answer.read1(1)
    answer.close()
    wait_for(lambda: llama.requests()[0]["outcome"] == "client_closed", "the request's end")


def test_a_reset_connection_is_no_error(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    address = recorder.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        wait_for(lambda: threading.active_count() > before, "the connection's thread")
        # Closing sends a reset instead of waiting for the peer.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: threading.active_count() == before, "the thread's end")
    assert capsys.readouterr().err == ""
