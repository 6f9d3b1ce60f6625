"""Clients leave, workers die, the model server and Redis restart: no slot has two requests."""

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import redis

from sandbox.process import wait_until
from tests.blueprints.v1.client import Client, sim
from tests.run import EXHAUSTIVE
from tests.support.books import Account
from tests.support.load import Load
from tests.support.process_stack import ProcessStack, running, say, until

pytestmark = [pytest.mark.alone, pytest.mark.exhaustive, pytest.mark.timeout(900)]

REQUESTS = 1000 if EXHAUSTIVE else 150
SLOTS = 6
CLIENTS = 14
LEAVING = 4
KILL_SECONDS = 5.0
# A conversation of several thousand tokens takes a part of a second to read.
DIRECTIVES = "tokens=30 delay_ms=10"


def leave_again_and_again(
    url: str, account: Account, over: threading.Event, randomness: random.Random
) -> None:
    """Start streams and close them: while they wait, during the prompt, during the answer."""
    client = Client(url, account.key)
    while not over.is_set():
        directives = randomness.choice(("prefill_ms=400 progress=4", "tokens=500 delay_ms=10"))
        try:
            with client.open(messages=sim(directives)):
                over.wait(randomness.uniform(0.0, 0.6))
        except OSError:
            over.wait(0.1)


def test_slots_in_churn(tmp_path: Path) -> None:
    stack = ProcessStack(
        tmp_path / "stack",
        llama={"slots": SLOTS, "prompt_speed": 20_000.0},
        INFERENCE_USER_RATE_LIMIT=100_000,
        INFERENCE_IP_RATE_LIMIT=100_000,
        MAX_CONCURRENT_REQUESTS=64,
    )
    with running(stack):
        stack.start_background()
        gateway = stack.site(workers=3)
        accounts = [stack.books.account(paid_tokens=10_000_000) for _ in range(5)]
        stack.wait_for_sweeps()
        over = threading.Event()
        leavers = [
            threading.Thread(
                target=leave_again_and_again,
                args=(gateway.url, accounts[number], over, random.Random(number)),
            )
            for number in range(LEAVING)
        ]
        named_busy = 0
        with Load(CLIENTS) as load:
            for leaver in leavers:
                leaver.start()
            for number in range(CLIENTS):
                load.repeat(gateway.port, accounts[number % len(accounts)].key, DIRECTIVES)
            due = [REQUESTS * share // 4 for share in (1, 2, 3)]
            killed_at = time.monotonic()
            while len(load.replies) < REQUESTS or due:
                time.sleep(0.1)
                if time.monotonic() - killed_at > KILL_SECONDS:
                    killed_at = time.monotonic()
                    os.kill(random.Random(killed_at).choice(gateway.worker_pids()), signal.SIGKILL)
                if due and len(load.replies) >= due[0]:
                    if due.pop(0) == REQUESTS // 2:
                        stack.redis.kill()
                        stack.redis.start()
                    else:
                        named_busy += stack.llama.totals()["named_busy"]
                        stack.llama.crash()
                        stack.llama.start()
            over.set()
            for leaver in leavers:
                leaver.join()
            replies = load.finish()
        named_busy += stack.llama.totals()["named_busy"]
        assert named_busy == 0
        assert all(reply.ended_at for reply in replies)
        until(lambda: stack.books.open_holds() == 0, "no open hold", 90)
        stack.check_books()
        with redis.Redis.from_url(stack.redis_url) as client:
            key = f"promptly:slots:{stack.llama.url}"
            wait_until(lambda: client.zcard(key) == 0, 20, "no lease")
        wait_until(lambda: stack.llama.totals()["processing"] == 0, 20, "an idle server")
        ends = {end: len(load.sent(end)) for end in ("done", "cut", "error", "refused")}
        assert ends["done"] >= REQUESTS // 2
        named = [
            record
            for record in stack.llama.requests()
            if (record["body"] or {}).get("id_slot", -1) >= 0
        ]
        assert len(named) >= REQUESTS // 4
        say(f"{len(replies)} requests, {ends}, {len(named)} in slots that were named")
