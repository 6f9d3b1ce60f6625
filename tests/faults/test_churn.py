"""Clients leave, workers die, the model server and Redis restart: no slot has two requests.

Slots are named all the time, except for a while after Redis was lost.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from promptly.gateway.slots.requests import TTL_MS
from sandbox.process import wait_until
from tests.blueprints.v1.client import Client, sim
from tests.support.books import Account, wait_for
from tests.support.load import Load, Reply
from tests.support.process_stack import ProcessStack, Site, running, say, until
from tests.support.slots import name_slots

pytestmark = [pytest.mark.alone, pytest.mark.exhaustive, pytest.mark.timeout(900)]

# Complete answers to clients that stay.
REQUESTS = 1000
SLOTS = 6
CLIENTS = 14
LEAVING = 4
KILL_SECONDS = 5.0
# A conversation of several thousand tokens takes a part of a second to read.
DIRECTIVES = "tokens=30 delay_ms=10"
# After a loss of Redis all processes have time to report their leases, then all slots are found.
REPORT_SECONDS, FIND_SECONDS = TTL_MS / 1000, 5.0


class Churn:
    """A stack under load; `counted` is when slots need not be named (seconds since the epoch)."""

    def __init__(self, stack: ProcessStack, gateway: Site) -> None:
        self.counted: list[tuple[float, float]] = []
        self.kills = 0
        self._stack, self._gateway = stack, gateway
        self._random = random.Random(17)

    def begin(self, load: Load) -> None:
        """Kill a worker while all is new and requests are only counted, which then is over.

        Its requests live on in Redis for ten seconds, and their slots are unknown.
        """
        started_at = time.time()
        wait_for(lambda: len(load.sent("done")) >= SLOTS, "answers")
        self.kill_worker()
        name_slots(self._stack.redis_url, self._stack.llama.url)
        self.counted.append((started_at, time.time() + FIND_SECONDS))

    def kill_worker(self) -> None:
        os.kill(self._random.choice(self._gateway.worker_pids()), signal.SIGKILL)
        self.kills += 1

    def restart_server(self) -> None:
        self._stack.llama.crash()
        self._stack.llama.start()

    def restart_redis(self) -> None:
        lost_at = time.time()
        self._stack.redis.kill()
        self._stack.redis.start()
        self.counted.append((lost_at, time.time() + REPORT_SECONDS + FIND_SECONDS))

    def disturb(self, load: Load) -> None:
        """Cause the faults, each at its share of the requests; returns after the last request."""
        acts = [self.restart_server, self.restart_redis, self.restart_server]
        due = [(REQUESTS * place // (len(acts) + 1), act) for place, act in enumerate(acts, 1)]
        killed_at = time.monotonic()
        while (done := len(load.sent("done"))) < REQUESTS:
            time.sleep(0.05)
            if time.monotonic() - killed_at > KILL_SECONDS:
                killed_at = time.monotonic()
                self.kill_worker()
            if due and done >= due[0][0]:
                due.pop(0)[1]()

    def has_redis(self, at: float) -> bool:
        """Whether Redis had been there for long."""
        return not any(start < at < end for start, end in self.counted)


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


@contextmanager
def leaving(url: str, accounts: list[Account]) -> Iterator[None]:
    over = threading.Event()
    leavers = [
        threading.Thread(
            target=leave_again_and_again, args=(url, account, over, random.Random(number))
        )
        for number, account in enumerate(accounts)
    ]
    for leaver in leavers:
        leaver.start()
    try:
        yield
    finally:
        over.set()
        for leaver in leavers:
            leaver.join()


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
        churn = Churn(stack, gateway)
        stack.wait_for_sweeps()
        with Load(CLIENTS) as load:
            for number in range(CLIENTS):
                load.repeat(gateway.port, accounts[number % len(accounts)].key, DIRECTIVES)
            churn.begin(load)
            with leaving(gateway.url, accounts[:LEAVING]):
                churn.disturb(load)
            replies = load.finish()
        check_end(stack, replies)
        check_slots(stack.llama.requests(), churn)


def check_end(stack: ProcessStack, replies: list[Reply]) -> None:
    """Assert that all requests have ended, that the books are clean and all slots free."""
    assert all(reply.ended_at for reply in replies)
    until(lambda: stack.books.open_holds() == 0, "no open hold", 90)
    stack.check_books()
    with redis.Redis.from_url(stack.redis_url) as client:
        key = f"promptly:slots:{stack.llama.url}"
        wait_until(lambda: client.zcard(key) == 0, 20, "no lease")
    wait_until(lambda: stack.llama.totals()["processing"] == 0, 20, "an idle server")
    ends = {end: sum(reply.end == end for reply in replies) for end in ("done", "cut", "error")}
    say(f"{len(replies)} requests of clients that stay: {ends}")


def check_slots(records: list[dict[str, Any]], churn: Churn) -> None:
    """Assert that no request named a busy slot, and nearly all of them one."""
    calm = [record for record in records if churn.has_redis(record["started_at"])]
    named = [record for record in calm if record["named_slot"] is not None]
    busy = [record for record in records if record["named_busy"]]
    say(
        f"{churn.kills} workers killed; of {len(records)} requests at the server {len(calm)} while "
        f"Redis had been there for long, {len(named)} of these named a slot"
    )
    assert not busy
    assert len(named) >= 0.9 * len(calm) >= 0.3 * REQUESTS
