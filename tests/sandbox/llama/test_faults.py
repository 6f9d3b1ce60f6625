"""Faults apply to their own request, or to the next ones until used up or cleared."""

import socket
import time
from contextlib import suppress
from functools import partial

import pytest

from sandbox.llama import SimulatedLlama
from sandbox.process import SandboxError, wait_until
from tests.sandbox.llama.conftest import OpenStream
from tests.sandbox.llama.wire import (
    CHAT,
    Json,
    call,
    content,
    events,
    hello,
    is_kept,
    post,
    sim,
    stream,
)

TIMED: Json = {"timings_per_token": True, "return_progress": True}


def test_end_of_file_in_the_middle(llama: SimulatedLlama, open_stream: OpenStream) -> None:
    raw = open_stream("tokens=50 eof_after=10 tag=a")
    raw.read_to_end()
    assert b"[DONE]" not in raw.received
    record = llama.wait_for_end("a")
    assert (record["outcome"], record["completion_tokens"]) == ("fault", raw.last_count())
    assert record["completion_generated"] == 10


def test_end_of_file_before_the_first_token(llama: SimulatedLlama, open_stream: OpenStream) -> None:
    raw = open_stream("eof_after=0 tag=a")
    raw.read_to_end()
    assert raw.last_count() == 0
    record = llama.wait_for_end("a")
    assert record["completion_tokens"] == 0
    assert record["processed_prompt_tokens"] == record["prompt_tokens"]


def test_the_end_of_the_whole_server(llama: SimulatedLlama, open_stream: OpenStream) -> None:
    raw = open_stream("tokens=50 die_after=3")
    with suppress(ConnectionResetError):
        raw.read_to_end()
    assert b"[DONE]" not in raw.received
    wait_until(lambda: not llama.is_running, 10, "the end of the server")
    llama.restart()


def test_the_records_outlive_a_crash(llama: SimulatedLlama, open_stream: OpenStream) -> None:
    stream(llama.url, messages=sim("tokens=4 tag=before"))
    for tag in ("first", "second"):
        raw = open_stream(f"tokens=2000 delay_ms=5 tag={tag}")
        wait_until(partial(_has_output, llama, tag), 10, "tokens")
        llama.crash()
        raw.read_to_end()
        llama.start()
        record = llama.request(tag)
        assert (record["outcome"], record["completion_tokens"]) == ("crashed", raw.last_count())
    finished = llama.request("before")
    assert (finished["outcome"], finished["completion_tokens"]) == ("finished", 4)
    llama.restart()
    assert llama.requests() == []


def _has_output(llama: SimulatedLlama, tag: str) -> bool:
    return any(record["completion_tokens"] > 5 for record in llama.requests(tag))


def test_counts_that_lie(llama: SimulatedLlama) -> None:
    found = stream(llama.url, messages=sim("tokens=3 lie=negative"), **TIMED)
    assert found[0]["prompt_progress"]["total"] == -5000
    assert {event["timings"]["predicted_n"] for event in found if "timings" in event} == {-5000}


def test_an_error_frame_ends_the_stream(llama: SimulatedLlama) -> None:
    found = stream(llama.url, messages=sim("tokens=50 error_after=7 tag=a"), **TIMED)
    assert found[-1]["error"]["code"] == 500
    assert llama.wait_for_end("a")["outcome"] == "fault"


def test_a_reset_is_an_error_for_the_reader(llama: SimulatedLlama, open_stream: OpenStream) -> None:
    raw = open_stream("delay_ms=5 reset_after=5 tag=a")
    with pytest.raises(ConnectionResetError):
        raw.read_to_end()
    assert llama.wait_for_end("a")["completion_generated"] == 5


def test_a_stall_sends_comments_and_goes_on(llama: SimulatedLlama, open_stream: OpenStream) -> None:
    started = time.monotonic()
    raw = open_stream("tokens=9 stall_after=4 stall_s=0.5")
    raw.read_until(b"[DONE]")
    assert time.monotonic() - started >= 0.5
    assert raw.received.count(b"\r\n:\n\n\r\n") == 2  # every 0.2 s in these tests


def test_slow_prefill_in_steps(llama: SimulatedLlama) -> None:
    found = stream(llama.url, messages=sim("prefill_ms=100 progress=4 cache=3"), **TIMED)
    steps = [event["prompt_progress"] for event in found if "prompt_progress" in event]
    assert len(steps) == 5
    assert steps[0]["processed"] == steps[0]["cache"] == 3
    assert steps[-1]["processed"] == steps[-1]["total"]
    assert steps[-1]["time_ms"] >= 100
    timings = found[-2]["timings"]
    assert timings["cache_n"] + timings["prompt_n"] == steps[0]["total"]


@pytest.mark.parametrize("how", ["utf8", "line", "random"])
def test_split_events_are_whole_again_when_joined(
    llama: SimulatedLlama, open_stream: OpenStream, how: str
) -> None:
    directives = f"tokens=40 first=utf8 split={how}"
    raw = open_stream(directives)
    raw.read_until(b"\r\n0\r\n\r\n")
    body = raw.received.partition(b"\r\n\r\n")[2]
    chunks = body.split(b"\r\n")[1::2]
    assert any(not chunk.endswith(b"\n\n") for chunk in chunks if chunk)
    if how == "utf8":
        assert any(chunk.endswith(b"\xf0") for chunk in chunks)
    joined = events(b"".join(chunks))
    assert "🌍" in content(joined)
    assert joined[-1] == "[DONE]"


def test_a_status_instead_of_an_answer(llama: SimulatedLlama) -> None:
    status, answer = post(llama.url, messages=sim("status=503 tag=a"))
    assert (status, answer["error"]["code"]) == (503, 503)
    assert llama.wait_for_end("a")["outcome"] == "rejected"


def test_global_faults_are_used_up_and_cleared(llama: SimulatedLlama) -> None:
    llama.set_faults(status=500, times=2)
    assert [post(llama.url, messages=hello())[0] for _ in range(3)] == [500, 500, 200]
    llama.set_faults(status=500, on="count")
    assert post(llama.url, messages=hello())[0] == 200
    assert post(llama.url, f"{CHAT}/input_tokens", messages=hello())[0] == 500
    llama.clear()
    assert post(llama.url, f"{CHAT}/input_tokens", messages=hello())[0] == 200
    with pytest.raises(SandboxError, match="unknown: stauts"):
        llama.set_faults(stauts=500)


def test_loading_answers_503_everywhere(llama: SimulatedLlama) -> None:
    llama.set_faults(loading=True)
    for method, path in (("GET", "/health"), ("GET", "/nothing"), ("POST", CHAT)):
        status, _, data = call(llama.url, method, path)
        assert (status, b"Loading model" in data) == (503, True)
    llama.clear()
    assert call(llama.url, "GET", "/health")[0] == 200


def test_refused_connections_for_a_while(llama: SimulatedLlama) -> None:
    llama.set_faults(refuse_s=0.4)

    def refuses() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", llama.port)) != 0

    wait_until(refuses, 5, "a refused connection")
    wait_until(lambda: not refuses(), 5, "the end of refusing")
    assert post(llama.url, messages=hello())[0] == 200


def test_restart_and_kill_keep_the_port() -> None:
    server = SimulatedLlama().start()
    try:
        url = server.url
        server.restart()
        assert server.url == url
        server.kill()
        assert not server.is_running
        server.start()
        assert call(url, "GET", "/health")[0] == 200
    finally:
        server.stop()


def test_connections_that_are_left_after_an_answer() -> None:
    server = SimulatedLlama(embeddings=True).start()
    try:
        for how in ("close", "reset", "half_close", "drop"):
            server.set_faults(afterwards=how, times=1)
            assert not is_kept(server.url, "/v1/embeddings", input="hello")
            assert is_kept(server.url, "/v1/embeddings", input="hello")
    finally:
        server.stop()
