"""Disconnecting clients: upstream stops, the slot is freed, upstream's counts are charged."""

import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client, sim
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway
from tests.support.stack import Stack
from tests.support.tcp_proxy import before_postgres

tags = (f"cut{number}" for number in itertools.count())


def check_charge(record: dict[str, Any], event: dict[str, Any]) -> None:
    """Check that the charge equals the record's last counts."""
    assert record["outcome"] == "client_closed"
    assert event["outcome"] == "client_disconnected"
    assert event["prompt_tokens"] == record["processed_prompt_tokens"]
    assert event["completion_tokens"] == record["completion_tokens"]
    assert event["charged_tokens"] == event["prompt_tokens"] + event["completion_tokens"]
    assert event["uncharged_tokens"] == 0


@pytest.fixture
def idle(llama: SimulatedLlama) -> Iterator[None]:
    """Check at teardown that no slot is taken."""
    yield
    wait_for(lambda: llama.totals()["processing"] == 0, "all slots free", 2.0)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("split", ["", " split=random"])
def test_in_mid_stream(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account, split: str
) -> None:
    tag = next(tags)
    with client.open(messages=sim(f"tokens=5000 delay_ms=5 tag={tag}{split}")) as stream:
        stream.read_until(b"content").read_bytes(len(stream.received) + 2000)
    record = llama.wait_for_end(tag, 2.0)
    [event] = books.wait_for_events(account, 1)
    check_charge(record, event)
    assert 0 < event["completion_tokens"] < 1000
    assert event["time_to_first_token_ms"] is not None


@pytest.mark.usefixtures("idle")
def test_a_client_that_does_not_stream(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    tag = next(tags)
    with client.open(messages=sim(f"tokens=5000 delay_ms=5 tag={tag}"), stream=False):
        wait_for(lambda: _progress(llama, tag) >= 20, "twenty tokens")
    record = llama.wait_for_end(tag, 2.0)
    [event] = books.wait_for_events(account, 1)
    check_charge(record, event)
    assert event["completion_tokens"] >= 20


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("more", [b"\n", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_after_more_than_the_request_was_sent(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account, more: bytes
) -> None:
    tag = next(tags)
    with client.open(messages=sim(f"tokens=5000 delay_ms=5 tag={tag}"), stream=False) as stream:
        wait_for(lambda: _progress(llama, tag) >= 20, "twenty tokens")
        stream.socket.sendall(more)
        # It still runs, for it may be a pipelined request.
        reached = _progress(llama, tag)
        wait_for(lambda: _progress(llama, tag) > reached + 20, "more tokens")
    record = llama.wait_for_end(tag)
    [event] = books.wait_for_events(account, 1)
    check_charge(record, event)
    assert event["completion_tokens"] < 2500


def _progress(llama: SimulatedLlama, tag: str) -> int:
    return sum(record["completion_tokens"] for record in llama.requests(tag))


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("streamed", [True, False])
def test_in_prefill(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account, streamed: bool
) -> None:
    tag = next(tags)
    messages = sim(f"prefill_ms=20000 progress=200 cache=50 tag={tag}", text="word " * 4000)
    with client.open(messages=messages, stream=streamed):
        wait_for(
            lambda: any(r["processed_prompt_tokens"] > 50 for r in llama.requests(tag)), "progress"
        )
    record = llama.wait_for_end(tag, 2.0)
    [event] = books.wait_for_events(account, 1)
    check_charge(record, event)
    assert 50 < event["prompt_tokens"] < record["prompt_tokens"]
    # They were not the account's own.
    assert event["cached_prompt_tokens"] == 0
    assert event["completion_tokens"] == 0


def test_before_the_prompt_is_processed(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    tag = next(tags)
    with client.open(messages=sim(f"headers_ms=20000 tag={tag}")):
        wait_for(lambda: llama.totals()["processing"] == 1, "the slot")
    llama.wait_for_end(tag, 2.0)
    [event] = books.wait_for_events(account, 1)
    assert (event["outcome"], event["charged_tokens"]) == ("client_disconnected", 0)


@pytest.mark.parametrize("streamed", [True, False])
def test_in_the_queue(
    make_gateway: MakeGateway,
    make_llama: MakeLlama,
    books: BooksReader,
    account: Account,
    streamed: bool,
) -> None:
    llama = make_llama(slots=1)
    gateway = make_gateway(llama.url, KEEPALIVE_COMMENT_SECONDS=1)
    client = Client(gateway.url, account.key)
    with client.open(messages=sim("tokens=5000 delay_ms=5 tag=first")) as first:
        first.read_until(b"content")
        with client.open(messages=sim("tag=second"), stream=streamed) as second:
            wait_for(lambda: books.open_holds(account) == 2, "the second hold")
            if streamed:
                second.read_until(b": queue")
        # The queue place and the hold are released while the first request still runs.
        wait_for(lambda: len(books.events(account)) == 1, "the second one's event")
        [event] = books.events(account)
        assert (event["outcome"], event["charged_tokens"]) == ("client_disconnected", 0)
        assert books.open_holds(account) == 1
        assert llama.requests("second") == []
    books.wait_for_events(account, 2)
    assert client.chat(messages=sim("tokens=3")).status == 200


def test_while_the_hold_waits_for_postgres(
    v1_database: str, redis_url: str, llama: SimulatedLlama, books: BooksReader, tmp_path: Path
) -> None:
    proxy, url = before_postgres(v1_database)
    account = books.account(paid_tokens=100_000)
    tag = next(tags)
    with closing(proxy), Stack(tmp_path, database_url=url, redis_url=redis_url) as stack:
        gateway = stack.gateway(llama.url, HOLD_QUANTUM_TOKENS=16)
        with Client(gateway.url, account.key).open(
            messages=sim(f"tokens=5000 delay_ms=5 tag={tag}")
        ) as stream:
            stream.read_until(b"content")
            proxy.shut()
            # Upstream generates far beyond the hold while the client gets nothing more.
            wait_for(lambda: llama.requests(tag)[0]["completion_tokens"] > 300, "more tokens")
        record = llama.wait_for_end(tag)
        proxy.open()
        [event] = books.wait_for_events(account, 1)
        check_charge(record, event)


def test_a_client_that_reads_no_more_is_given_up(
    make_gateway: MakeGateway, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    gateway = make_gateway(llama.url, UPSTREAM_IDLE_TIMEOUT_SECONDS=2)
    tag = next(tags)
    # More than all buffers on the way can hold.
    long = sim(f"tokens=30000 tag={tag}")
    client = Client(gateway.url, account.key)
    with client.open(messages=long, logprobs=True, top_logprobs=20) as stream:
        stream.read_until(b"content")
        [event] = books.wait_for_events(account, 1)
        assert event["outcome"] == "client_disconnected"
        assert event["charged_tokens"] > 0
        assert llama.wait_for_end(tag, 2.0)["outcome"] == "client_closed"


@pytest.mark.alone
def test_a_hundred_streams_cut_at_random_points(
    gateway: Gateway, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    client = Client(gateway.url, account.key)
    dice = random.Random(20261123)

    def cut(number: int, size: int, delay: float, streamed: bool) -> None:
        directives = f"tokens=3000 delay_ms={delay} tag=random{number} prefill_ms=30 progress=3"
        with client.open(messages=sim(directives), stream=streamed) as stream:
            if streamed:
                stream.read_bytes(size)
            else:
                wait_for(lambda: _progress(llama, f"random{number}") > size // 100, "some tokens")

    plans = [
        (number, dice.randint(1, 40_000), dice.choice([0.5, 1, 2]), dice.random() < 0.8)
        for number in range(100)
    ]
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(cut, *plan) for plan in plans]:
            future.result(timeout=60)
    events = books.wait_for_events(account, 100)
    records = [llama.wait_for_end(f"random{number}") for number in range(100)]

    def key(row: dict[str, Any]) -> tuple[int, int]:
        prompt = row.get("processed_prompt_tokens", row["prompt_tokens"])
        return prompt, row["completion_tokens"]

    assert sorted(map(key, events)) == sorted(map(key, records))
    assert books.balance(account)["available_tokens"] == 1_000_000 - sum(
        event["charged_tokens"] for event in events
    )
    assert books.differences() == []
