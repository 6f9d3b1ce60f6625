"""On two servers, conversations come back to the slots that have them cached."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from sandbox.real_llama import RealLlama
from tests.blueprints.v1.client import Client
from tests.plugins.stacks import UPSTREAM_KEY, MakeStack
from tests.run import EXHAUSTIVE
from tests.support.slots import name_slots
from tests.support.stack import Stack

pytestmark = pytest.mark.real_llama

SERVERS, SLOTS = 2, 2
AGENTS = SERVERS * SLOTS
TURNS = 20 if EXHAUSTIVE else 6
WORDS = 60


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("affinity", LLAMA_API_KEY=UPSTREAM_KEY) as stack:
        yield stack


@pytest.fixture(scope="module")
def servers(stack: Stack) -> list[RealLlama]:
    flags = ("--cache-ram", "0")
    return [
        stack.real_llama(slots=SLOTS, ctx=16_384, api_key=UPSTREAM_KEY, arguments=flags)
        for _ in range(SERVERS)
    ]


def converse(client: Client, agent: int, turns: int) -> list[tuple[int, int]]:
    """Take turns; returns the size of each prompt, and how much of it was cached."""
    messages: list[dict[str, str]] = []
    sizes = []
    for turn in range(turns):
        text = " ".join(f"note {agent} {turn} {number}" for number in range(WORDS))
        messages.append({"role": "user", "content": text})
        answer = client.chat(messages=messages, max_tokens=8, temperature=0)
        assert answer.status == 200, answer.body
        usage = answer.json["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        sizes.append((usage["prompt_tokens"], cached))
        text = answer.json["choices"][0]["message"]["content"]
        messages.append({"role": "assistant", "content": text})
    return sizes


def test_agents_find_their_caches(stack: Stack, servers: list[RealLlama]) -> None:
    urls = [server.url for server in servers]
    gateway = stack.gateway(*urls, workers=2)
    accounts = [stack.books.account(paid_tokens=10_000_000) for _ in range(AGENTS)]
    clients = [Client(gateway.url, account.key) for account in accounts]
    with ThreadPoolExecutor(AGENTS) as pool:
        # All servers get requests, so that their state exists.
        list(pool.map(partial(converse, agent=99, turns=1), clients))
        for url in urls:
            name_slots(stack.redis_url, url)
        runs = list(pool.map(partial(converse, turns=TURNS), clients, range(AGENTS)))
    repeated = sum(size for sizes in runs for size, _ in sizes[:-1])
    cached = sum(cached for sizes in runs for _, cached in sizes)
    # On a crowded machine Redis may be late once, and all caches of a server are then read anew.
    assert cached >= 0.75 * repeated, f"{cached / repeated:.2f} of the repeated tokens were cached"
