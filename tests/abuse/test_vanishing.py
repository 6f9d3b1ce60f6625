"""Clients that send one byte too many and vanish: their slots and tokens are free again."""

import itertools
from contextlib import ExitStack
from functools import partial

import pytest

from tests.abuse.arena import Arena
from tests.blueprints.v1.client import Client, sim
from tests.support.books import wait_for

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

# Twice as many would be more than the account may run at a time.
CROWD = 6
TOKENS = 5000

# Tags that the neighbour, in a process of its own, does not use.
numbers = itertools.count()


def test_a_stray_byte_hides_no_disconnect(arena: Arena) -> None:
    account = arena.trial_account(10_000_000)
    client = Client(arena.gateway.url, account.key)
    tags: list[str] = []

    def has_begun(tag: str) -> bool:
        return any(record["completion_tokens"] >= 5 for record in arena.llama.requests(tag))

    def attack() -> None:
        sent = [f"gone{next(numbers)}" for _ in range(CROWD)]
        with ExitStack() as stack:
            for tag in sent:
                messages = sim(f"tokens={TOKENS} delay_ms=20 tag={tag}")
                request = stack.enter_context(client.open(messages=messages, stream=False))
                wait_for(partial(has_begun, tag), f"tokens of {tag}")
                request.socket.sendall(b"\n")
        for tag in sent:
            record = arena.llama.wait_for_end(tag, 20)
            assert record["outcome"] == "client_closed"
            assert record["completion_tokens"] < TOKENS
        tags.extend(sent)

    arena.withstand(attack)
    events = arena.stack.books.wait_for_events(account, 2 * CROWD)
    records = [arena.llama.request(tag) for tag in tags]
    assert sorted(event["charged_tokens"] for event in events) == sorted(
        record["processed_prompt_tokens"] + record["completion_tokens"] for record in records
    )
