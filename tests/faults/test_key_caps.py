"""Streams on one capped key while a worker is killed: never over the cap, and spent to its end."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from promptly.models.states import CapPeriod
from promptly.services.accounts import key_limits
from promptly.transactions import transaction
from sandbox.process import wait_until
from tests.support.books import Account
from tests.support.load import Reply, ask, messages, new_tag
from tests.support.process_stack import ProcessStack, Site, running, say, until

RUNS = 20
STREAMS = 200
CAP = 1_000_000
WORKERS = 4
# Streams take about two seconds, so that a kill cuts some of them.
DIRECTIVES = "tokens=400 delay_ms=5"
PADDING = "word " * 1000

# CI races on caps in tests/services/metering/test_races.py.
pytestmark = [pytest.mark.alone, pytest.mark.exhaustive, pytest.mark.timeout(300 * RUNS)]


def test_streams_spend_a_cap_to_its_end(tmp_path: Path) -> None:
    with running(ProcessStack(tmp_path / "stack", llama={"slots": 256})) as stack:
        stack.start_background()
        gateway = stack.site(workers=WORKERS)
        stack.wait_for_sweeps()
        probe = stack.books.account(paid_tokens=100_000)
        for number in range(RUNS):
            # A request of the smallest size that the streams send.
            smallest = _ask(gateway, probe, max_tokens=1).usage
            assert smallest is not None
            _spend(stack, gateway, number, smallest["prompt_tokens"])
        stack.check_books()


def _spend(stack: ProcessStack, gateway: Site, number: int, prompt: int) -> None:
    account = stack.books.account(paid_tokens=10 * CAP)
    with stack.books.app.app_context(), transaction():
        key_limits.set_limits(
            account.user_id,
            account.key_id,
            {"cap_tokens": CAP, "cap_period": CapPeriod.EVER},
        )
    ends: list[str] = []

    def insist(_: int) -> None:
        # New requests until the key is used up; what a dead process held is free a little later.
        deadline = time.monotonic() + 300
        while True:
            reply = _ask(gateway, account, stream=True)
            ends.append(reply.code or reply.end)
            if reply.status == 402:
                assert reply.code == "key_limit_reached"
                return
            if reply.status == 429:
                assert reply.code in {"tokens_reserved", "rate_limit_exceeded"}
                time.sleep(1.0)
            assert time.monotonic() < deadline

    with ThreadPoolExecutor(STREAMS) as pool:
        streams = pool.map(insist, range(STREAMS))
        wait_until(partial(_has_streams, stack, gateway), 60, "a worker with streams")
        victim = max(gateway.worker_pids(), key=stack.streams_of)
        os.kill(victim, signal.SIGKILL)
        list(streams)
    until(lambda: stack.books.open_holds(account) == 0, "no open hold", 90)
    # The kill's holds may have left some tokens after the last refusal.
    while _ask(gateway, account, stream=False).status == 200:
        pass
    charged = sum(event["charged_tokens"] for event in stack.books.events(account))
    uncharged = sum(event["uncharged_tokens"] for event in stack.books.events(account))
    [row] = stack.books.rows(
        "SELECT used_tokens, held_tokens, open_holds FROM key_limits WHERE key_id = :key_id",
        key_id=account.key_id,
    )
    assert (row["used_tokens"], row["held_tokens"], row["open_holds"]) == (charged, 0, 0)
    assert charged <= CAP
    assert CAP - charged < prompt + 1
    assert "cut" in ends
    assert ends.count("done") >= CAP // (2 * (prompt + 400))
    say(
        f"run {number + 1}: {charged} of {CAP} tokens, {uncharged} uncharged, the smallest prompt"
        f" {prompt}; {ends.count('done')} done, {ends.count('cut')} cut,"
        f" {ends.count('tokens_reserved')} times 429, {ends.count('key_limit_reached')} times 402"
    )


def _ask(
    gateway: Site, account: Account, *, stream: bool = False, max_tokens: int | None = None
) -> Reply:
    reply = Reply(new_tag())
    [message] = messages(reply.tag, DIRECTIVES)
    padded = [{**message, "content": message["content"] + PADDING}]
    limit = {} if max_tokens is None else {"max_tokens": max_tokens}
    fields: dict[str, Any] = {"messages": padded, **limit}
    return ask(gateway.port, account.key, stream=stream, reply=reply, **fields)


def _has_streams(stack: ProcessStack, gateway: Site) -> bool:
    return any(stack.streams_of(pid) >= 2 for pid in gateway.worker_pids())
