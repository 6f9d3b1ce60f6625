"""The cached part of a prompt: the client is shown what the event and the receipt record."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.blueprints.v1.client import Answer, Client, sim
from tests.blueprints.v1.conftest import name_its_slots
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway
from tests.support.stack import Stack

TEXT = "word " * 30
STEERED = f"{TEXT}[[sim tokens=5 cache=20]]"
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}

Shown = Callable[[Answer], int]


def of_chat(usage: dict[str, Any]) -> int:
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def of_response(response: dict[str, Any]) -> int:
    return int(response["usage"]["input_tokens_details"]["cached_tokens"])


def data_of(answer: Answer, name: str) -> dict[str, Any]:
    """Return the data of the last event of this type in a stream without [DONE]."""
    [*_, found] = [part for part in answer.parts if part.startswith(f"event: {name}\n")]
    data: dict[str, Any] = json.loads(found.split("data: ", 1)[1])
    return data


# Path, body, and where the answer shows the cached tokens.
DIALECTS: dict[str, tuple[str, dict[str, Any], Shown]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": sim("tokens=5 cache=20", TEXT)},
        lambda answer: of_chat(answer.json["usage"]),
    ),
    "chat stream": (
        "/v1/chat/completions",
        {"messages": sim("tokens=5 cache=20", TEXT), **WITH_USAGE},
        lambda answer: of_chat(answer.events[-1]["usage"]),
    ),
    "completions": (
        "/v1/completions",
        {"prompt": [f"{TEXT}[[sim tokens=5 cache=7]]", f"{TEXT}[[sim tokens=5 cache=13]]"]},
        lambda answer: of_chat(answer.json["usage"]),
    ),
    "completions stream": (
        "/v1/completions",
        {"prompt": STEERED, **WITH_USAGE},
        lambda answer: of_chat(answer.events[-1]["usage"]),
    ),
    "messages": (
        "/v1/messages",
        {"max_tokens": 50, "messages": sim("tokens=5 cache=20", TEXT)},
        lambda answer: answer.json["usage"]["cache_read_input_tokens"],
    ),
    "messages stream": (
        "/v1/messages",
        {"max_tokens": 50, "messages": sim("tokens=5 cache=20", TEXT), "stream": True},
        lambda answer: data_of(answer, "message_delta")["usage"]["cache_read_input_tokens"],
    ),
    "responses": ("/v1/responses", {"input": STEERED}, lambda answer: of_response(answer.json)),
    "responses stream": (
        "/v1/responses",
        {"input": STEERED, "stream": True},
        lambda answer: of_response(data_of(answer, "response.completed")["response"]),
    ),
}


@pytest.fixture(scope="module")
def one_slot(v1_stack: Stack) -> Gateway:
    """A gateway in front of a single slot, which holds what the last request left there."""
    llama = v1_stack.simulated_llama(slots=1)
    gateway = v1_stack.gateway(llama.url, HOLD_QUANTUM_TOKENS=16)
    name_its_slots(v1_stack, llama, gateway)
    return gateway


def with_own_cache(gateway: Gateway, account: Account) -> Client:
    """Return a client whose account filled the slot last: nothing else counts as cached."""
    client = Client(gateway.url, account.key)
    assert client.chat(max_tokens=1).status == 200
    return client


@pytest.fixture
def client(one_slot: Gateway, account: Account) -> Client:
    return with_own_cache(one_slot, account)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_shown_is_recorded(
    client: Client, books: BooksReader, account: Account, dialect: str
) -> None:
    path, body, shown = DIALECTS[dialect]
    answer = client.call("POST", path, body)
    assert answer.status == 200, answer
    assert shown(answer) == 20
    [_, event] = books.wait_for_events(account, 2)
    assert event["cached_prompt_tokens"] == 20
    # The price is the same.
    assert event["charged_tokens"] == event["prompt_tokens"] + event["completion_tokens"]
    request_id = answer.headers["x-promptly-request-id"]
    receipt = client.get(f"/v1/usage?request_id={request_id}").json
    assert receipt["cached_prompt_tokens"] == 20
    [day] = client.get("/v1/usage").json["data"]
    assert day["cached_prompt_tokens"] == 20


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_where_the_balance_ends(
    one_slot: Gateway, client: Client, books: BooksReader, path: str
) -> None:
    """The answer's end, and with it the usage, is promptly's own."""
    steered = f"{TEXT}[[sim tokens=500 cache=20]]"
    body: dict[str, Any] = {"max_tokens": 400}
    if path.endswith("chat/completions"):
        body["messages"] = [{"role": "user", "content": steered}]
    else:
        body["prompt"] = steered
    usage = client.call("POST", path, body).json["usage"]
    account = books.account(paid_tokens=1_000)
    client = with_own_cache(one_slot, account)
    books.rows(
        "UPDATE token_purchases SET paid_tokens = :left WHERE user_id = :user_id",
        left=usage["prompt_tokens"] + 100,
        user_id=account.user_id,
    )
    answer = client.call("POST", path, body)
    assert answer.json["choices"][0]["finish_reason"] == "length"
    [_, event] = books.wait_for_events(account, 2)
    assert event["completion_tokens"] == 100
    assert of_chat(answer.json["usage"]) == event["cached_prompt_tokens"] == 20


def test_a_prompt_that_failed_costs_nothing_and_counts_as_nothing_cached(
    client: Client, books: BooksReader, account: Account
) -> None:
    prompts = [f"{TEXT}[[sim tokens=5 cache=7]]", f"{TEXT}[[sim cache=13 eof_after=0]]"]
    answer = client.call("POST", "/v1/completions", {"prompt": prompts})
    assert answer.status == 502, answer
    [_, event] = books.wait_for_events(account, 2)
    assert (event["outcome"], event["cached_prompt_tokens"]) == ("upstream_error", 7)


def test_embeddings_have_no_cache(simulated_gateway: Gateway, shared_stack: Stack) -> None:
    account = shared_stack.books.account()
    client = Client(simulated_gateway.url, account.key)
    assert client.call("POST", "/v1/embeddings", {"input": ["a", "b"]}).status == 200
    [event] = shared_stack.books.wait_for_events(account, 1)
    assert (event["endpoint"], event["cached_prompt_tokens"]) == ("embeddings", 0)
