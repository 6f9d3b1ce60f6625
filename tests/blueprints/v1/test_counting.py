"""Counting prompts: free of charge, but neither without a balance nor without bounds."""

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Answer, Client, sim
from tests.blueprints.v1.conftest import MakeGateway
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway

COUNTS = (
    "/v1/chat/completions/input_tokens",
    "/v1/responses/input_tokens",
    "/v1/messages/count_tokens",
)


@pytest.mark.parametrize("path", COUNTS)
def test_an_empty_account_is_refused_before_its_body_is_read(
    gateway: Gateway, llama: SimulatedLlama, books: BooksReader, path: str
) -> None:
    client = Client(gateway.url, books.account(paid_tokens=0).key)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 1000\r\n"
    )
    with client.raw(f"{head}Authorization: Bearer {client.key}\r\n\r\n".encode()) as stream:
        answer = stream.answer()
    assert answer.status == 402
    assert answer.headers["x-should-retry"] == "false"
    assert b"/dashboard" in answer.body
    assert llama.totals()["counted"] == 0


def test_an_empty_account_is_not_counted_before_its_request_is_refused(
    narrow_gateway: Gateway, narrow_llama: SimulatedLlama, books: BooksReader
) -> None:
    client = Client(narrow_gateway.url, books.account(paid_tokens=0).key)
    assert client.chat().status == 402
    # By their bytes alone, these might not fit.
    prompts = ["word " * 1000] * 2
    assert client.call("POST", "/v1/completions", {"prompt": prompts}).status == 402
    assert narrow_llama.totals()["counted"] == 0


# By its bytes, this prompt might not fit into the narrow model's context.
DOUBTFUL = "word " * 1000
DOUBTFUL_TOKENS = 1251


def complete(client: Client, prompts: list[str]) -> Answer:
    return client.call("POST", "/v1/completions", {"prompt": prompts})


def test_counting_ends_with_the_first_prompt_that_the_balance_does_not_cover(
    narrow_gateway: Gateway, narrow_llama: SimulatedLlama, books: BooksReader
) -> None:
    client = Client(narrow_gateway.url, books.account(paid_tokens=2 * DOUBTFUL_TOKENS).key)
    answer = complete(client, [DOUBTFUL] * 128)
    assert (answer.status, answer.error["code"]) == (402, "insufficient_quota")
    assert narrow_llama.totals()["counted"] == 2
    # Each prompt has a token at least.
    poor = Client(narrow_gateway.url, books.account(paid_tokens=128).key)
    assert complete(poor, ["a"] * 128).status == 402
    assert narrow_llama.totals()["counted"] == 2


def test_no_prompt_is_counted_twice(
    narrow_gateway: Gateway, narrow_llama: SimulatedLlama, books: BooksReader
) -> None:
    account = books.account(paid_tokens=2 * DOUBTFUL_TOKENS + 5)
    answer = complete(Client(narrow_gateway.url, account.key), [DOUBTFUL] * 2)
    assert answer.status == 200
    assert narrow_llama.totals()["counted"] == 2


def test_counting_ends_when_the_client_leaves(
    make_gateway: MakeGateway, llama: SimulatedLlama, books: BooksReader
) -> None:
    gateway = make_gateway(llama.url)
    client = Client(gateway.url, books.account(paid_tokens=10_000_000).key)
    # The model server takes a while for each.
    with client.open("/v1/completions", prompt=["word " * 20_000] * 128):
        wait_for(lambda: llama.totals()["counted"] >= 2, "two counted prompts")
    # The gateway ends once the request has.
    gateway.stop()
    assert llama.totals()["counted"] < 64
    assert llama.requests() == []


def test_an_account_whose_tokens_are_all_held_may_try_again(
    gateway: Gateway, llama: SimulatedLlama, books: BooksReader
) -> None:
    client = Client(gateway.url, books.account(paid_tokens=300).key)
    with client.open(messages=sim("tokens=200 delay_ms=50")) as stream:
        stream.read_until(b"data: ")
        answer = client.call("POST", COUNTS[0], {"messages": sim()})
    assert (answer.status, answer.error["code"]) == (429, "tokens_reserved")
    assert int(answer.headers["retry-after"]) <= 60


@pytest.mark.parametrize("path", [*COUNTS, CHAT])
def test_a_prompt_that_cannot_fit_is_not_counted(
    narrow_gateway: Gateway, narrow_llama: SimulatedLlama, account: Account, path: str
) -> None:
    client = Client(narrow_gateway.url, account.key)
    turns = [{"role": "user", "content": "a" * (2048 * 512)}]
    body = {"input": turns} if "responses" in path else {"messages": turns}
    answer = client.call("POST", path, body)
    assert answer.status == 400
    assert b"context" in answer.body
    assert narrow_llama.requests() == []
    assert narrow_llama.totals()["counted"] == 0


def test_a_prompt_that_might_fit_is_counted(narrow_gateway: Gateway, account: Account) -> None:
    client = Client(narrow_gateway.url, account.key)
    turns = [{"role": "user", "content": "a" * (2000 * 512)}]
    answer = client.call("POST", COUNTS[0], {"messages": turns})
    assert answer.status == 200
    assert answer.json["input_tokens"] > 2048
