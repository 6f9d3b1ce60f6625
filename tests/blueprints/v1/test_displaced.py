"""A full queue sends away a trial's newest request for a paying account's, and costs it nothing."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from promptly.gateway.slots.exchange import queue_key
from promptly.gateway.slots.scheduler import queue_name
from tests.blueprints.v1.client import CHAT, Client, sim
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import BooksReader, wait_for

TRIAL_TOKENS = 100_000
PROMPT = sim("tokens=3")
# Each API's path, its fields, and the end of its error event.
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": PROMPT}),
    "completions": ("/v1/completions", {"prompt": "hello"}),
    "messages": ("/v1/messages", {"messages": PROMPT, "model": "m", "max_tokens": 9}),
    "responses": ("/v1/responses", {"input": "hello", "model": "m"}),
}
MESSAGE = "Too many requests are waiting for the model. Please try again shortly."


def last_event(received: bytes) -> tuple[str, Any]:
    """Return the name and the data of a stream's last event."""
    lines = [line.strip() for line in received.decode().splitlines()]
    data = [line for line in lines if line.startswith("data: ")]
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    return names[-1] if names else "", json.loads(data[-1].removeprefix("data: "))


def check_error(dialect: str, received: bytes) -> None:
    name, data = last_event(received)
    assert b"[DONE]" not in received
    if dialect == "messages":
        assert (name, data["type"]) == ("error", "error")
        assert data["error"]["message"] == MESSAGE
        assert data["error"]["details"] == {"error_code": "queue_full"}
    elif dialect == "responses":
        assert name == data["type"] == "response.failed"
        # OpenAI's list of codes for a response has no better one.
        expected = {"code": "server_error", "message": MESSAGE}
        assert (data["response"]["status"], data["response"]["error"]) == ("failed", expected)
    else:
        assert data == {
            "error": {"message": MESSAGE, "type": "server_error", "param": None,
                      "code": "queue_full"},
        }  # fmt: skip


@pytest.mark.parametrize("workers", [2, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_displaced_request_ends_with_an_error_and_costs_nothing(
    make_gateway: MakeGateway,
    make_llama: MakeLlama,
    books: BooksReader,
    redis_url: str,
    workers: int,
) -> None:
    llama = make_llama(slots=1)
    gateway = make_gateway(
        llama.url, workers=workers, MAX_QUEUED_REQUESTS=1, KEEPALIVE_COMMENT_SECONDS=1
    )
    payer, owner = books.account(), books.account(paid_tokens=0, trial_tokens=TRIAL_TOKENS)
    paying, trial = Client(gateway.url, payer.key), Client(gateway.url, owner.key)
    with redis.Redis.from_url(redis_url) as client, ThreadPoolExecutor(1) as threads:

        def wait_for_queue(length: int) -> None:
            key = f"{queue_key(queue_name(CHAT, 'sim-model'))}:requests"
            wait_for(lambda: client.hlen(key) == length, f"{length} in the queue")

        with paying.open(messages=sim("tokens=9999 delay_ms=5")) as running:
            running.read_until(b"content")
            for dialect, (path, fields) in STREAMS.items():
                with trial.open(path, **{"messages": None, **fields}) as displaced:
                    # Its headers are sent.
                    displaced.read_until(b": queue position=1")
                    with paying.open(messages=PROMPT) as successor:
                        end = b"event: error" if dialect == "messages" else b'"server_error"'
                        displaced.read_until(end).read_until(b"}\n\n")
                        check_error(dialect, displaced.received)
                        wait_for(lambda: books.open_holds(owner) == 0, "the released hold")
                        wait_for_queue(1)
                        assert b"error" not in successor.received
                wait_for_queue(0)
            whole = threads.submit(trial.chat, messages=PROMPT)
            wait_for_queue(1)
            with paying.open(messages=PROMPT):
                answer = whole.result(30)
                assert (answer.status, answer.error["code"]) == (503, "queue_full")
                assert int(answer.headers["retry-after"]) >= 1
                # No place for one more of the lowest class that waits, at once.
                refused = trial.chat(messages=PROMPT)
                assert (refused.status, refused.error["code"]) == (503, "queue_full")
    wait_for(lambda: books.open_holds() == 0, "the end of all requests")
    assert {event["charged_tokens"] for event in books.events(owner)} == {0}
    assert books.balance(owner)["available_tokens"] == TRIAL_TOKENS
    assert books.differences() == []
