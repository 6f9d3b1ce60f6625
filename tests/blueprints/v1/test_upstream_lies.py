"""A model server that reports impossible counts: no balance grows, and no charge is lost."""

from collections.abc import Callable

import pytest

from sandbox.llama import SimulatedLlama
from sandbox.llama.lies import LIES
from tests.blueprints.v1.client import Answer, Client, sim
from tests.support.servers import Gateway
from tests.support.stack import Stack

PAID = 1_000_000

SAMPLE = ("negative", "beyond_int4", "text")
ALL = [pytest.param(lie, marks=[] if lie in SAMPLE else [pytest.mark.exhaustive]) for lie in LIES]

# Each way of asking; all but the first two have counts of their own dialect.
REQUESTS: dict[str, Callable[[Client], Answer]] = {
    "chat": lambda client: client.chat(messages=sim("tokens=5")),
    "stream": lambda client: client.stream(
        messages=sim("tokens=5"), stream_options={"include_usage": True}
    ),
    "completions": lambda client: client.call(
        "POST", "/v1/completions", {"prompt": ["hello", "world"]}
    ),
    "messages": lambda client: client.call(
        "POST", "/v1/messages", {"max_tokens": 5, "messages": sim("tokens=5")}
    ),
    "responses": lambda client: client.call("POST", "/v1/responses", {"input": "hello"}),
    "embeddings": lambda client: client.call("POST", "/v1/embeddings", {"input": ["a", "b"]}),
}


@pytest.mark.parametrize("lie", ALL)
def test_no_lie_mints_tokens_or_loses_a_charge(
    simulated_gateway: Gateway, simulated_llama: SimulatedLlama, shared_stack: Stack, lie: str
) -> None:
    books = shared_stack.books
    for name, ask in REQUESTS.items():
        simulated_llama.clear()
        account = books.account(paid_tokens=PAID)
        simulated_llama.set_faults(lie=lie)
        answer = ask(Client(simulated_gateway.url, account.key))
        [event] = books.wait_for_events(account, 1)
        assert answer.status in (200, 502), (name, answer)
        assert event["prompt_tokens"] >= 0 <= event["completion_tokens"], (name, event)
        assert 0 <= event["cached_prompt_tokens"] <= event["prompt_tokens"], (name, event)
        counted = event["prompt_tokens"] + event["completion_tokens"]
        assert event["charged_tokens"] == min(counted, PAID), (name, event)
        assert event["uncharged_tokens"] == counted - event["charged_tokens"], (name, event)
        assert books.balance(account)["available_tokens"] == PAID - event["charged_tokens"]
        if (name, lie) == ("embeddings", "beyond_int4"):
            # The charge is not lost: it takes all that there is.
            assert event["charged_tokens"] == PAID
    assert books.differences() == []
    simulated_llama.clear()


@pytest.mark.parametrize("lie", ALL)
def test_a_count_of_the_prompt_that_cannot_be_one(
    simulated_gateway: Gateway, simulated_llama: SimulatedLlama, shared_stack: Stack, lie: str
) -> None:
    # So little that the prompt is counted before it runs.
    account = shared_stack.books.account(paid_tokens=100)
    client = Client(simulated_gateway.url, account.key)
    simulated_llama.clear()
    simulated_llama.set_faults(lie=lie, on="count")
    answer = client.chat(messages=sim("tokens=3"))
    simulated_llama.clear()
    assert answer.status in (200, 400, 402, 502, 503), answer
    assert shared_stack.books.balance(account)["paid_tokens"] <= 100
    assert shared_stack.books.open_holds(account) == 0
