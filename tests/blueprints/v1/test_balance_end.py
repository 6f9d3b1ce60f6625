"""A balance that runs out mid-answer is spent to the last token."""

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client, sim
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway


def prompt_tokens(gateway: Gateway, books: BooksReader, directives: str) -> int:
    """Return the size in tokens of the prompt that the tests below send."""
    client = Client(gateway.url, books.account().key)
    usage = client.chat(messages=sim(directives), max_tokens=1).json["usage"]
    return int(usage["prompt_tokens"])


@pytest.fixture
def growing(growing_gateway: Gateway, llama: SimulatedLlama) -> Gateway:
    """A gateway whose holds grow in small steps."""
    return growing_gateway


def check_end(client: Client, books: BooksReader, account: Account, output: int) -> None:
    """Check that `output` completion tokens used up the balance and a new request gets 402."""
    [event] = books.wait_for_events(account, 1)
    assert event["completion_tokens"] == output
    assert event["uncharged_tokens"] == 0
    balance = client.get("/v1/balance").json
    assert (balance["available_tokens"], balance["reserved_tokens"]) == (0, 0)
    assert client.chat().status == 402


@pytest.mark.parametrize("trial", [0, 30])
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("delay", ["", " delay_ms=2"])
def test_all_was_held_at_the_start(
    gateway: Gateway,
    llama: SimulatedLlama,
    books: BooksReader,
    streamed: bool,
    trial: int,
    delay: str,
) -> None:
    messages = sim(f"tokens=500{delay}")
    prompt = prompt_tokens(gateway, books, f"tokens=500{delay}")
    account = books.account(paid_tokens=prompt + 100 - trial, trial_tokens=trial)
    client = Client(gateway.url, account.key)
    if streamed:
        answer = client.stream(messages=messages, stream_options={"include_usage": True})
        assert answer.events[-2]["choices"][0]["finish_reason"] == "length"
        usage = answer.events[-1]["usage"]
    else:
        answer = client.chat(messages=messages)
        assert answer.json["choices"][0]["finish_reason"] == "length"
        usage = answer.json["usage"]
    assert usage["completion_tokens"] == 100
    assert usage["total_tokens"] == prompt + 100
    check_end(client, books, account, 100)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("delay", ["", " delay_ms=2"])
def test_growing_came_to_an_end(
    growing: Gateway, llama: SimulatedLlama, books: BooksReader, streamed: bool, delay: str
) -> None:
    directives = f"tokens=500{delay}"
    prompt = prompt_tokens(growing, books, directives)
    account = books.account(paid_tokens=prompt + 90)
    client = Client(growing.url, account.key)
    fields = {"messages": sim(directives)}
    if streamed:
        answer = client.stream(**fields, stream_options={"include_usage": True})
        *_, finish, usage = answer.events
        assert finish["choices"][0]["finish_reason"] == "length"
        assert usage["usage"]["completion_tokens"] == 90
        assert "timings" not in answer.body.decode()
    else:
        answer = client.chat(**fields)
        assert answer.json["choices"][0]["finish_reason"] == "length"
        assert answer.json["usage"]["completion_tokens"] == 90
        assert answer.headers["x-promptly-balance-tokens"] == "0"
    check_end(client, books, account, 90)
    wait_for(lambda: llama.totals()["processing"] == 0, "the slot", 2.0)


def test_a_hold_that_grows_in_time_is_not_noticed(
    growing: Gateway, books: BooksReader, account: Account
) -> None:
    client = Client(growing.url, account.key)
    answer = client.stream(
        messages=sim("tokens=2000 delay_ms=0.2"), stream_options={"include_usage": True}
    )
    assert answer.events[-2]["choices"][0]["finish_reason"] == "stop"
    assert answer.events[-1]["usage"]["completion_tokens"] == 2000
    [event] = books.wait_for_events(account, 1)
    assert event["completion_tokens"] == 2000


def test_two_answers_that_share_the_last_tokens(
    growing: Gateway, books: BooksReader, llama: SimulatedLlama
) -> None:
    directives = "tokens=5000 delay_ms=1"
    prompt = prompt_tokens(growing, books, directives)
    account = books.account(paid_tokens=2 * prompt + 200)
    client = Client(growing.url, account.key)
    with (
        client.open(messages=sim(directives)) as first,
        client.open(messages=sim(directives)) as second,
    ):
        first.read_until(b"data: [DONE]")
        second.read_until(b"data: [DONE]")
    events = books.wait_for_events(account, 2)
    assert sum(event["charged_tokens"] for event in events) == 2 * prompt + 200
    # The last character shown may have taken more than one token.
    assert all(event["uncharged_tokens"] <= 2 for event in events)
    assert books.balance(account)["available_tokens"] == 0


def test_less_than_the_prompt_and_one_token(gateway: Gateway, books: BooksReader) -> None:
    prompt = prompt_tokens(gateway, books, "tokens=500")
    poor = Client(gateway.url, books.account(paid_tokens=prompt).key)
    assert poor.chat(messages=sim("tokens=500")).status == 402
    just = books.account(paid_tokens=prompt + 1)
    answer = Client(gateway.url, just.key).chat(messages=sim("tokens=500"))
    assert answer.status == 200
    assert answer.json["usage"]["completion_tokens"] == 1
    assert books.balance(just)["available_tokens"] == 0
