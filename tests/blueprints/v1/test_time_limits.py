"""Each time limit ends in a clear error, a freed slot and an exact charge."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client, sim
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import Account, BooksReader


@dataclass(frozen=True)
class Limit:
    """A limit's settings, the directives that exceed it, and the expected error message."""

    variables: dict[str, int]
    directives: str
    message: str


LIMITS = {
    "first byte": Limit(
        {"UPSTREAM_FIRST_BYTE_TIMEOUT_SECONDS": 1},
        "headers_ms=20000",
        "did not begin its answer within 1 s.",
    ),
    "idle": Limit(
        {"UPSTREAM_IDLE_TIMEOUT_SECONDS": 1},
        "tokens=9 stall_after=4 stall_s=20",
        "stopped sending for 1 s ",
    ),
    "whole request": Limit(
        {"REQUEST_TIMEOUT_SECONDS": 2},
        "tokens=9999 delay_ms=20",
        "took longer than 2 s,",
    ),
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_upstream_takes_too_long(
    make_gateway: MakeGateway,
    make_llama: MakeLlama,
    books: BooksReader,
    account: Account,
    limit: Limit,
) -> None:
    llama = make_llama(slots=1)
    client = Client(make_gateway(llama.url, **limit.variables).url, account.key)
    whole = client.chat(messages=sim(f"{limit.directives} tag=whole"))
    assert (whole.status, whole.error["code"]) == (504, "timeout")
    assert limit.message in whole.error["message"]
    assert whole.headers["x-should-retry"] == "false"
    streamed = client.stream(messages=sim(f"{limit.directives} tag=streamed"))
    if streamed.status == 200:
        error = json.loads(streamed.parts[-1].removeprefix("data: "))["error"]
        assert (error["code"], error["type"]) == ("timeout", "server_error")
    else:
        error = streamed.error
        assert streamed.status == 504
    assert limit.message in error["message"]
    # The only slot is free again.
    assert client.chat(messages=sim("tokens=3")).status == 200

    for tag, event in zip(("whole", "streamed"), books.wait_for_events(account, 3), strict=False):
        record = llama.wait_for_end(tag)
        assert (event["outcome"], record["outcome"]) == ("timeout", "client_closed")
        assert event["completion_tokens"] == record["completion_tokens"]
        counted = record["prompt_tokens"] + record["completion_tokens"]
        assert event["charged_tokens"] == (counted if record["completion_tokens"] else 0)


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that accepts no connection: its backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(address)
        yield address[1]
        for connection in waiting:
            connection.close()


def test_connecting_takes_too_long(
    make_gateway: MakeGateway, llama: SimulatedLlama, account: Account, deaf_port: int
) -> None:
    deaf = f"http://127.0.0.1:{deaf_port}"
    alone = make_gateway(deaf, UPSTREAM_CONNECT_TIMEOUT_SECONDS=1)
    answer = Client(alone.url, account.key).chat()
    assert (answer.status, answer.error["code"]) == (503, "upstream_unavailable")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    both = make_gateway(deaf, llama.url, UPSTREAM_CONNECT_TIMEOUT_SECONDS=1)
    assert Client(both.url, account.key).chat(messages=sim("tokens=3")).status == 200


def test_waiting_takes_too_long(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    llama = make_llama(slots=1)
    client = Client(make_gateway(llama.url, QUEUE_TIMEOUT_SECONDS=1).url, account.key)
    with client.open(messages=sim("tokens=9999 delay_ms=5")) as first:
        first.read_until(b"content")
        answer = client.chat()
        assert (answer.status, answer.error["code"]) == (503, "queue_full")
        assert "waited for the model for 1 s " in answer.error["message"]
        assert int(answer.headers["retry-after"]) <= 60
    refused, _ = sorted(
        books.wait_for_events(account, 2), key=lambda event: int(event["charged_tokens"])
    )
    assert refused["charged_tokens"] == 0
