"""Prices other than the default, through running gateways: charges, limits, changes, caches."""

import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from promptly.prices import Price, parse_prices
from promptly.services.metering import price_versions
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client, OpenStream, sim
from tests.blueprints.v1.conftest import name_its_slots
from tests.plugins.stacks import MakeStack
from tests.run import EXHAUSTIVE
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway
from tests.support.stack import Stack

# The simulated servers are named so that each has one of these prices.
PRICES = "*:100:10:300,free-output:100:100:0,thirds:33:33:33,listed:150:5:100000"
FIRST, SECOND = "*:150:25:333", "*:50:200:99,another:1:1:1"
STREAMS = 100 if EXHAUSTIVE else 24
TEXT = "word " * 300


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("prices", PRICES=PRICES) as stack:
        yield stack
        assert stack.books.differences() == []


@pytest.fixture(scope="module")
def llama(stack: Stack) -> SimulatedLlama:
    return stack.simulated_llama(slots=1)


@pytest.fixture(scope="module", params=[pytest.param(1024, marks=pytest.mark.exhaustive), 16])
def gateway(stack: Stack, llama: SimulatedLlama, request: pytest.FixtureRequest) -> Gateway:
    """A gateway whose holds take all of a small balance at once, or grow in small steps."""
    gateway = stack.gateway(llama.url, HOLD_QUANTUM_TOKENS=request.param)
    name_its_slots(stack, llama, gateway)
    return gateway


def price_of(receipt: dict[str, Any]) -> Price:
    return Price(*map(int, receipt["price"].split(":")))


def recomputed(receipt: dict[str, Any]) -> int:
    """Return the cost of a receipt, by hand."""
    cached = int(receipt["cached_prompt_tokens"])
    price = price_of(receipt)
    hundredths: int = (
        (receipt["prompt_tokens"] - cached) * price.input
        + cached * price.cached
        + receipt["completion_tokens"] * price.output
    )
    return (hundredths + 99) // 100


def receipts(books: BooksReader, client: Client, account: Account) -> list[dict[str, Any]]:
    ids = [f"req_{event['request_id'].hex}" for event in books.events(account)]
    return [client.get(f"/v1/usage?request_id={request_id}").json for request_id in ids]


def test_a_balance_ends_at_the_last_token_that_it_pays(stack: Stack, gateway: Gateway) -> None:
    messages = sim("tokens=500", TEXT)
    measured = Client(gateway.url, stack.books.account().key).chat(messages=messages, max_tokens=1)
    prompt = measured.json["usage"]["prompt_tokens"]
    # Of the simulator's tokens, each eighth comes with the next one.
    for output, rest in ((43, 2), (203, 0)):
        account = stack.books.account(paid_tokens=prompt + 3 * output + rest)
        client = Client(gateway.url, account.key)
        answer = client.stream(messages=messages, stream_options={"include_usage": True})
        assert answer.events[-2]["choices"][0]["finish_reason"] == "length"
        [receipt] = receipts(stack.books, client, account)
        assert receipt["price"] == "100:10:300"
        assert (receipt["completion_tokens"], receipt["cached_prompt_tokens"]) == (output, 0)
        assert answer.events[-1]["usage"]["completion_tokens"] == output
        assert receipt["charged_tokens"] == recomputed(receipt) == prompt + 3 * output
        assert receipt["uncharged_tokens"] == 0
        assert client.get("/v1/balance").json["available_tokens"] == rest
        assert client.chat().status == 402


def test_what_was_cached_leaves_more_output(stack: Stack, gateway: Gateway) -> None:
    """How much of a prompt is cached turns out only when it runs: the end is exact all the same."""
    books = stack.books
    account = books.account(paid_tokens=10_000)
    client = Client(gateway.url, account.key)
    messages = sim("tokens=2000", TEXT)
    first = client.chat(messages=messages, max_tokens=5)
    prompt = first.json["usage"]["prompt_tokens"]
    left = prompt + 500
    books.rows(
        "UPDATE token_purchases SET paid_tokens = :left WHERE user_id = :user_id",
        left=left,
        user_id=account.user_id,
    )
    assert client.chat(messages=messages).json["choices"][0]["finish_reason"] == "length"
    receipt = receipts(books, client, account)[1]
    assert receipt["cached_prompt_tokens"] > prompt / 2
    price = price_of(receipt)
    output = price.output_for(left * 100 - price.prompt(prompt, receipt["cached_prompt_tokens"]))
    assert receipt["completion_tokens"] == output > 500 // 3
    rest = left - recomputed(receipt)
    assert receipt["charged_tokens"] == recomputed(receipt)
    assert 0 <= rest <= 3
    assert client.get("/v1/balance").json["available_tokens"] == rest
    assert client.chat(messages=messages).status == 402


@pytest.mark.exhaustive
def test_free_output_goes_on_when_the_prompt_took_the_balance(stack: Stack) -> None:
    gateway = stack.gateway(stack.simulated_llama(alias="free-output").url)
    measured = Client(gateway.url, stack.books.account().key).chat(messages=sim("tokens=300"))
    prompt = measured.json["usage"]["prompt_tokens"]
    account = stack.books.account(paid_tokens=prompt)
    client = Client(gateway.url, account.key)
    answer = client.chat(messages=sim("tokens=300"))
    assert answer.json["usage"]["completion_tokens"] == 300
    assert answer.headers["x-promptly-charged-tokens"] == str(prompt)
    assert client.chat().status == 402


def test_several_prompts_are_rounded_up_once(stack: Stack) -> None:
    gateway = stack.gateway(stack.simulated_llama(embeddings=True, alias="thirds").url)
    account = stack.books.account()
    client = Client(gateway.url, account.key)
    body = {"prompt": ["a [[sim tokens=4]]", "b [[sim tokens=4]]", "c [[sim tokens=4]]"]}
    assert client.call("POST", "/v1/completions", body).status == 200
    assert client.call("POST", "/v1/embeddings", {"input": ["a", "b c"]}).status == 200
    for receipt in receipts(stack.books, client, account):
        tokens = receipt["prompt_tokens"] + receipt["completion_tokens"]
        assert receipt["charged_tokens"] == -(-tokens * 33 // 100)


@pytest.fixture
def changing_stack(make_stack: MakeStack) -> Iterator[Stack]:
    """A database of its own, whose prices may change."""
    with make_stack("changing") as stack:
        yield stack
        assert stack.books.differences() == []


@pytest.fixture
def streams() -> Iterator[list[OpenStream]]:
    """Streams that are closed at the end."""
    opened: list[OpenStream] = []
    yield opened
    for stream in opened:
        stream.close()


def test_a_change_does_not_touch_running_requests(
    changing_stack: Stack, streams: list[OpenStream]
) -> None:
    """Streams and conversations before, during and after: each receipt proves its charge."""
    stack, books = changing_stack, changing_stack.books
    llama = stack.simulated_llama(slots=STREAMS)
    gateway = stack.gateway(llama.url, PRICES=FIRST)
    name_its_slots(stack, llama, gateway)
    dice = random.Random(7)
    accounts = [books.account() for _ in range(6)]

    def talk(account: Account, seed: int, turns: int) -> None:
        own = random.Random(seed)
        client = Client(gateway.url, account.key)
        messages: list[Any] = []
        for turn in range(turns):
            text = f"conversation {seed} " * own.randint(5, 60)
            messages += sim(f"tokens={own.randint(1, 40)}", text)
            answer = client.chat(messages=messages).json
            messages.append({"role": "assistant", "content": f"{turn} ok"})
            assert "choices" in answer, answer

    for _ in range(STREAMS):
        account = dice.choice(accounts)
        tokens = dice.randint(150, 250)
        body: dict[str, Any] = {"messages": sim(f"tokens={tokens} delay_ms=40", TEXT)}
        streams.append(Client(gateway.url, account.key).open(**body))
    wait_for(lambda: books.open_holds() == STREAMS, "the running streams")
    held_by = {row["price_id"] for row in books.rows("SELECT price_id FROM holds")}
    with books.app.app_context(), transaction():
        assert price_versions.put_in_force(parse_prices(SECOND))
    assert books.open_holds() == STREAMS
    client = Client(gateway.url, accounts[0].key)
    in_force = {"input": "0.5", "cached_input": "2", "output": "0.99"}
    wait_for(
        lambda: client.get("/v1/models").json["data"][0]["pricing"] == in_force,
        "the new prices in the running gateway",
    )
    threads = [
        threading.Thread(target=talk, args=(account, seed, 3))
        for seed, account in enumerate(accounts * 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for stream in streams:
        stream.socket.settimeout(60)
        stream.read_until(b"[DONE]")
    wait_for(lambda: books.open_holds() == 0, "the end of all requests")

    found = [
        receipt
        for account in accounts
        for receipt in receipts(books, Client(gateway.url, account.key), account)
    ]
    assert len(found) == STREAMS + 12 * 3
    for receipt in found:
        assert receipt["charged_tokens"] == recomputed(receipt)
        assert receipt["uncharged_tokens"] == 0
    assert len({receipt["cached_prompt_tokens"] for receipt in found}) > 2
    prices = [receipt["price"] for receipt in found]
    assert len(held_by) == 1
    assert (prices.count("150:25:333"), prices.count("50:200:99")) == (STREAMS, 36)


def test_another_accounts_cache_is_not_paid_for_as_ones_own(stack: Stack) -> None:
    llama = stack.simulated_llama(slots=1)
    gateway = stack.gateway(llama.url, SLOT_ISOLATION="shared")
    name_its_slots(stack, llama, gateway)
    llama.clear()
    ann, bob = stack.books.account(), stack.books.account()
    for account, has_own in ((ann, False), (bob, False), (bob, True)):
        client = Client(gateway.url, account.key)
        answer = client.chat(messages=sim("tokens=5", TEXT))
        cached = answer.json["usage"]["prompt_tokens_details"]["cached_tokens"]
        receipt = receipts(stack.books, client, account)[-1]
        assert receipt["cached_prompt_tokens"] == cached
        assert (cached > 0) is has_own
        assert receipt["charged_tokens"] == recomputed(receipt)
    reused = [record["cached_prompt_tokens"] > 0 for record in llama.requests()]
    assert reused == [False, True, True]


def test_models_have_their_price(stack: Stack) -> None:
    gateway = stack.gateway(stack.simulated_llama(alias="listed").url)
    client = Client(gateway.url, stack.books.account().key)
    pricing = {"input": "1.5", "cached_input": "0.05", "output": "1000"}
    [model] = client.get("/v1/models").json["data"]
    assert model["pricing"] == pricing
