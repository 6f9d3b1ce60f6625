"""One account's prompts neither change another's answers nor show in its cached tokens."""

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.real_llama import RealLlama
from tests.blueprints.v1.client import Client
from tests.plugins.stacks import UPSTREAM_KEY, MakeStack
from tests.support.slots import name_slots
from tests.support.stack import Stack

pytestmark = pytest.mark.real_llama

# Long beginnings in common, short ends.
BEGINNING = "You know " + " ".join(f"fact {number} of this house," for number in range(30))
ENDS = ["one", "two words", "three more words", "one"]


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("isolation", LLAMA_API_KEY=UPSTREAM_KEY) as stack:
        yield stack


@pytest.fixture(scope="module")
def llama(stack: Stack) -> RealLlama:
    return stack.real_llama(slots=1, ctx=4096, api_key=UPSTREAM_KEY, arguments=("--cache-ram", "0"))


def ask(client: Client, end: str) -> tuple[str, int]:
    """Return a greedy answer, and how many tokens of the prompt were cached."""
    messages = [{"role": "user", "content": f"{BEGINNING} and {end}."}]
    answer = client.chat(messages=messages, max_tokens=12, temperature=0)
    assert answer.status == 200, answer.body
    usage: dict[str, Any] = answer.json["usage"]
    text: str = answer.json["choices"][0]["message"]["content"]
    return text, usage["prompt_tokens_details"]["cached_tokens"]


def alternate(
    stack: Stack, llama: RealLlama, isolation: str, times: int
) -> Iterator[tuple[bool, str, str, int]]:
    """Let two accounts take turns, sometimes twice; yields whether the account has changed, the
    question's end, the answer and its cached tokens."""
    gateway = stack.gateway(llama.url, SLOT_ISOLATION=isolation, INFERENCE_USER_RATE_LIMIT=100_000)
    clients = [
        Client(gateway.url, stack.books.account(paid_tokens=10_000_000).key) for _ in range(2)
    ]
    ask(clients[0], "nothing")
    name_slots(stack.redis_url, llama.url)
    last = 0
    for number in range(times):
        turn = (number // 2 + number // 3) % 2
        end = ENDS[number % len(ENDS)]
        answer, cached = ask(clients[turn], end)
        yield turn != last, end, answer, cached
        last = turn
    gateway.kill()


@pytest.mark.parametrize(
    "times",
    [24, pytest.param(2000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(3600)])],
)
def test_answers_and_cached_tokens_do_not_depend_on_other_accounts(
    stack: Stack, llama: RealLlama, times: int
) -> None:
    gateway = stack.gateway(llama.url)
    client = Client(gateway.url, stack.books.account(paid_tokens=10_000_000).key)
    fresh = {}
    for end in set(ENDS):
        llama.restart()
        fresh[end] = ask(client, end)[0]
    gateway.kill()
    reused = 0
    for changed, end, answer, cached in alternate(stack, llama, "account", times):
        assert answer == fresh[end]
        assert not (changed and cached)
        reused += not changed and cached > 0
    # An account finds its own prompt again.
    assert reused >= times // 8


def test_only_ones_own_part_of_a_shared_cache_counts(stack: Stack, llama: RealLlama) -> None:
    turns = list(alternate(stack, llama, "shared", 24))
    assert not any(changed and cached for changed, _, _, cached in turns[1:])
    assert any(cached for _, _, _, cached in turns)
