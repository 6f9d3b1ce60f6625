"""Requests to a server that just ends idle connections: none is lost, doubled or mixed up."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pytest

from promptly.clients.llama import LlamaClient, LlamaError
from promptly.secret import Secret
from tests.clients.unreliable_server import UnreliableServer, echo, read_all

EMBEDDINGS = "/v1/embeddings"


def race(requests: int, idle_seconds: float) -> None:
    """Ask a server that ends idle connections at random times; check every answer."""
    client: LlamaClient
    received: Counter[str] = Counter()
    lock = threading.Lock()

    def answer(body: bytes) -> bytes:
        with lock:
            received[body.decode()] += 1
        return echo(body)

    def ask(number: int) -> str:
        body = b"%032d" % number
        time.sleep(random.uniform(0, idle_seconds))
        try:
            with closing(client.post(EMBEDDINGS, body)) as stream:
                assert read_all(stream) == body
                return "reused" if stream.is_reused else "new"
        except LlamaError:
            # Only the race between the last look and the request: the caller decides on a resend.
            assert stream.is_reused
            assert stream.status is None
            return "stale"

    with UnreliableServer(answer, idle_seconds=lambda: random.uniform(0, idle_seconds)) as server:
        client = LlamaClient(server.url, Secret(""), 5)
        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(ask, range(requests)))
    assert max(received.values()) == 1
    assert len(received) >= requests - outcomes.count("stale")
    assert {"reused", "new"} <= set(outcomes)
    assert outcomes.count("stale") < requests / 10


def test_connections_that_end_at_random_times() -> None:
    race(400, 0.01)


@pytest.mark.exhaustive
def test_many_connections_that_end_at_random_times() -> None:
    race(20_000, 0.02)


@pytest.mark.exhaustive
def test_a_server_that_keeps_its_word_loses_no_request() -> None:
    """It closes after random times from the announced second on; pauses are random around it."""
    outcomes: Counter[bool] = Counter()
    answer = partial(echo, announced=b"Keep-Alive: timeout=1\r\n")

    def ask(number: int) -> None:
        client = LlamaClient(server.url, Secret(""), 5)
        for request in range(10):
            body = b"%d of %d" % (request, number)
            with closing(client.post(EMBEDDINGS, body)) as stream:
                assert read_all(stream) == body
                outcomes[stream.is_reused] += 1
            time.sleep(random.uniform(0, 1.4))

    with (
        UnreliableServer(answer, idle_seconds=lambda: random.uniform(1.0, 1.2)) as server,
        ThreadPoolExecutor(40) as threads,
    ):
        list(threads.map(ask, range(40)))
    assert outcomes.total() == 400
    assert outcomes[True] > 40
