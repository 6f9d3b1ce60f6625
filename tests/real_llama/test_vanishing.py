"""Clients that disconnect from a real llama-server: the slot is freed at once, the charge is close.

The model is as slow as a useful one, a few milliseconds per token. The usual tiny model generates
thousands of tokens per second, so more of them before a close can reach it.
"""

import json
from collections.abc import Iterator

import pytest

from sandbox.real_llama import RealLlama
from tests.blueprints.v1.client import Client
from tests.plugins.stacks import UPSTREAM_KEY, MakeStack
from tests.real_llama.test_chat import HELLO, NO_END, busy_slots, metric, most_decoded
from tests.real_llama.test_completions import PROMPTS, TEXT
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway
from tests.support.stack import Stack

# Alone: a server that waits for a CPU core has generated more than it could send.
pytestmark = [pytest.mark.real_llama, pytest.mark.alone]

LAYERS = 48


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("vanishing") as stack:
        yield stack


@pytest.fixture(scope="module")
def llama(stack: Stack) -> RealLlama:
    return stack.real_llama(slots=2, ctx=4096, api_key=UPSTREAM_KEY, layers=LAYERS)


@pytest.fixture(scope="module")
def gateway(stack: Stack, llama: RealLlama) -> Gateway:
    return stack.gateway(
        llama.url, workers=2, KEEPALIVE_COMMENT_SECONDS=1, LLAMA_API_KEY=UPSTREAM_KEY
    )


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_vanishes(
    client: Client, llama: RealLlama, books: BooksReader, account: Account, streamed: bool
) -> None:
    wait_for(lambda: busy_slots(llama) == 0, "an idle server")
    before = metric(llama, "tokens_predicted_total")
    with client.open(messages=HELLO, max_tokens=4000, stream=streamed, **NO_END) as stream:
        if streamed:
            stream.read_until(b"content").read_bytes(len(stream.received) + 20_000)
        else:
            wait_for(lambda: most_decoded(llama) > 5, "some tokens")
    wait_for(lambda: busy_slots(llama) == 0, "the slot")
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "client_disconnected"
    generated = metric(llama, "tokens_predicted_total") - before
    assert 0 < generated < 4000
    assert generated - 3 <= event["completion_tokens"] <= generated
    assert event["charged_tokens"] == event["prompt_tokens"] + event["completion_tokens"]


def test_a_client_that_leaves_at_the_second_prompt(
    client: Client, llama: RealLlama, books: BooksReader, account: Account
) -> None:
    wait_for(lambda: busy_slots(llama) == 0, "an idle server")
    before = metric(llama, "tokens_predicted_total")
    data = json.dumps({"prompt": PROMPTS[:3], "max_tokens": 300, "stream": True, **NO_END})
    head = f"POST {TEXT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {client.key}\r\n"
    with client.raw(f"{head}Content-Length: {len(data)}\r\n\r\n{data}".encode()) as stream:
        stream.read_until(b'"index":1')
        wait_for(lambda: most_decoded(llama) > 5, "some tokens")
    wait_for(lambda: busy_slots(llama) == 0, "the slot", 2.0)
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "client_disconnected"
    generated = metric(llama, "tokens_predicted_total") - before
    assert 300 < generated < 600
    assert generated - 3 <= event["completion_tokens"] <= generated
