"""A crowd of trial accounts waits for the only slot; a paying account is served next."""

from contextlib import ExitStack

import pytest
import redis

from promptly.gateway.slots.exchange import queue_key
from promptly.gateway.slots.requests import ServiceClass
from promptly.gateway.slots.scheduler import queue_name
from tests.blueprints.v1.client import CHAT, Client, sim
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import BooksReader, wait_for

DEADLINE_SECONDS = 120.0


@pytest.mark.parametrize("trials", [60, pytest.param(200, marks=pytest.mark.exhaustive)])
def test_a_paying_account_does_not_wait_for_the_crowd(
    make_gateway: MakeGateway,
    make_llama: MakeLlama,
    books: BooksReader,
    redis_url: str,
    trials: int,
) -> None:
    llama = make_llama(slots=1)
    # Not even all of the crowd finds a place in the queue.
    places = trials - 10
    gateway = make_gateway(llama.url, workers=2, MAX_QUEUED_REQUESTS=places)
    crowd = [
        Client(gateway.url, books.account(paid_tokens=0, trial_tokens=100_000).key)
        for _ in range(trials + 1)
    ]
    paying = Client(gateway.url, books.account().key)
    with ExitStack() as streams, redis.Redis.from_url(redis_url) as client:

        def wait_for_queue(service_class: ServiceClass, accounts: int) -> None:
            key = f"{queue_key(queue_name(CHAT, 'sim-model'))}:totals:{service_class}"
            wait_for(lambda: client.zcard(key) == accounts, "the queue", DEADLINE_SECONDS)

        running = streams.enter_context(crowd[0].open(messages=sim("tokens=99999 delay_ms=5")))
        running.read_until(b"content")
        for member in crowd[1:]:
            streams.enter_context(member.open(messages=sim("tokens=9 delay_ms=5")))
        wait_for_queue(ServiceClass.TRIAL, places)
        served = streams.enter_context(paying.open(messages=sim("tokens=9 delay_ms=5 tag=paying")))
        wait_for_queue(ServiceClass.PAYING, 1)
        running.close()
        served.read_until(b"data: [DONE]")
        # By the order of their slots: only the stream that was running came before.
        ran = sorted(record["slot_at"] for record in llama.requests() if record["slot_at"])
        assert ran.index(llama.request("paying")["slot_at"]) == 1
    wait_for(lambda: books.open_holds() == 0, "the end of all requests", DEADLINE_SECONDS)
    assert books.differences() == []
