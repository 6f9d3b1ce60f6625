"""Disconnects are noticed at once, and the record holds exactly what was sent before."""

import http.client
import random
import socket
import struct
import time

import pytest

from sandbox.llama import SimulatedLlama
from sandbox.process import wait_until
from tests.sandbox.llama.conftest import OpenStream
from tests.sandbox.llama.wire import hello, is_kept, post

TIMED = {"timings_per_token": True, "return_progress": True}


@pytest.mark.parametrize("delay_ms", [0, 3])
def test_after_a_half_close_the_reader_sees_exactly_the_recorded_count(
    llama: SimulatedLlama, open_stream: OpenStream, delay_ms: int
) -> None:
    choice = random.Random(7)
    for number in range(20):
        directives = f"tokens=9000 delay_ms={delay_ms} tag=t{number}"
        raw = open_stream(directives)
        raw.read_until(b'"predicted_n":1,')
        time.sleep(choice.uniform(0, 0.01))
        raw.half_close()
        raw.read_to_end()
        record = llama.wait_for_end(f"t{number}")
        assert record["outcome"] == "client_closed"
        assert record["completion_tokens"] == raw.last_count()
        assert 0 <= record["completion_generated"] - record["completion_tokens"] <= 3
        raw.close()


def test_generation_stops_at_once(llama: SimulatedLlama, open_stream: OpenStream) -> None:
    raw = open_stream("tokens=2 delay_ms=60000 tag=a")
    raw.read_until(b'"predicted_n":1,')
    raw.close()
    # Long before the next token, whose write would fail.
    record = llama.wait_for_end("a")
    assert (record["outcome"], record["completion_generated"]) == ("client_closed", 1)
    assert llama.totals()["processing"] == 0


def test_leaving_during_prefill_charges_what_was_processed(
    llama: SimulatedLlama, open_stream: OpenStream
) -> None:
    raw = open_stream("prefill_ms=5000 progress=50 tag=a")
    raw.read_until(b'"prompt_progress"')
    raw.half_close()
    raw.read_to_end()
    record = llama.wait_for_end("a")
    last = raw.received.rfind(b'"processed":')
    assert record["processed_prompt_tokens"] == int(raw.received[last + 12 :].split(b",")[0])
    assert record["processed_prompt_tokens"] < record["prompt_tokens"]
    assert record["completion_tokens"] == 0


def test_leaving_the_queue_frees_the_place(llama: SimulatedLlama, open_stream: OpenStream) -> None:
    busy = [open_stream(f"delay_ms=20 tag=b{n}") for n in range(2)]
    for raw in busy:
        raw.read_until(b"content")
    waiting = open_stream("tag=w")
    wait_until(lambda: llama.totals()["deferred"] == 1, 5, "a deferred request")
    waiting.close()
    record = llama.wait_for_end("w")
    assert (record["outcome"], record["slot_at"]) == ("client_closed", None)
    assert llama.totals()["deferred"] == 0
    for raw in busy:
        raw.close()


def test_slots_are_given_in_order_and_waiting_requests_get_nothing(
    llama: SimulatedLlama, open_stream: OpenStream
) -> None:
    busy = [open_stream(f"tokens=500 delay_ms=10 tag=b{n}") for n in range(2)]
    for raw in busy:
        raw.read_until(b"content")
    waiting = []
    for number in range(3):
        raw = open_stream(f"tokens=3 tag=w{number}")
        waiting.append(raw)
        wait_until(lambda: llama.totals()["deferred"] == len(waiting), 5, "a deferred request")
    waiting[0].socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        waiting[0].socket.recv(1)
    waiting[0].socket.settimeout(20)
    busy[0].close()
    starts = []
    for number, raw in enumerate(waiting):
        raw.read_until(b"[DONE]")
        starts.append(llama.wait_for_end(f"w{number}")["slot_at"])
    assert starts == sorted(starts)
    busy[1].close()
    llama.wait_for_end("b1")


def test_a_reader_that_does_not_read_holds_generation_up(
    llama: SimulatedLlama, open_stream: OpenStream
) -> None:
    raw = open_stream("tokens=3900 tag=a")
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wait_until(lambda: any(r["completion_tokens"] for r in llama.requests("a")), 5, "tokens")
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()
    llama.wait_for_end("a")


def test_connections_are_kept_for_a_hundred_requests(llama: SimulatedLlama) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", llama.port, timeout=10)
    kept = []
    for _ in range(100):
        connection.request("GET", "/health")
        response = connection.getresponse()
        assert response.read() == b'{"status":"ok"}'
        kept.append(response.getheader("keep-alive"))
    assert kept == ["timeout=5, max=100"] * 99 + [None]
    assert connection.sock is None
    connection.close()


def test_a_streamed_answer_ends_its_connection(llama: SimulatedLlama) -> None:
    """Although its head announces the contrary, as the real server's does."""
    assert not is_kept(llama.url, messages=hello(), stream=True)
    assert is_kept(llama.url, messages=hello())


def test_totals_add_up(llama: SimulatedLlama) -> None:
    for _ in range(3):
        post(llama.url, messages=hello(), max_tokens=5)
    totals = llama.totals()
    assert totals["requests"] == 3
    assert totals["completion_tokens"] == 15
    assert totals["outcomes"] == {"finished": 3}
    records = llama.requests()
    assert totals["prompt_tokens"] == sum(record["prompt_tokens"] for record in records)
    assert records[0]["body"]["messages"] == hello()
    assert "content-length" in records[0]["headers"]
