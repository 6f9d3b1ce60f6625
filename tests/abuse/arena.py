"""Two gunicorn workers, a neighbour, and the judgement of an attack."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import psutil

from sandbox.llama import SimulatedLlama
from tests.abuse.neighbour import Seen
from tests.support.books import Account, wait_for
from tests.support.process_stack import say
from tests.support.servers import PROJECT, Gateway
from tests.support.signing import STRIPE_SECRET
from tests.support.stack import Stack

MIB = 1024 * 1024
# Of a worker's memory: at any moment of an attack, and of what a second, identical one leaves in it
# beyond the first.
MOST_GROWTH = 64 * MIB
MOST_SECOND_GROWTH = 8 * MIB
# The largest gap of the neighbour's stream: the larger of these.
GAP_SECONDS = 1.0
GAP_FACTOR = 5.0
CALM_SECONDS = 5.0

VARIABLES: dict[str, object] = {
    "ADMIN_KEY": "the-arena-admin-key-0123456789",
    "STRIPE_SECRET_KEY": "sk_test_0123456789",
    "STRIPE_WEBHOOK_SECRET": STRIPE_SECRET,
    "STRIPE_API_BASE": "http://127.0.0.1:1",
    # The limits that an operator has by default; the neighbour's account stays below them.
    "MAX_CONCURRENT_REQUESTS": 8,
    # Below the time after which the fuzz calls it a hang.
    "BODY_TIMEOUT_SECONDS": 10,
}

Attack = Callable[[], object]


class Arena:
    """A gateway with two workers; `withstand` fails if an attack is noticed by others."""

    def __init__(self, stack: Stack, llama: SimulatedLlama, gateway: Gateway) -> None:
        self.stack = stack
        self.llama = llama
        self.gateway = gateway
        self._neighbour = stack.books.account(paid_tokens=100_000_000)

    @property
    def port(self) -> int:
        return self.gateway.port

    def trial_account(self, tokens: int = 100_000) -> Account:
        """Create an account with a trial and nothing paid."""
        return self.stack.books.account(paid_tokens=0, trial_tokens=tokens)

    def withstand(self, attack: Attack) -> None:
        """Run an attack twice; assert that no worker ends, grows, or keeps the neighbour waiting.

        The limits are those of the promise in SECURITY.md.
        """
        allowed = max(GAP_SECONDS, GAP_FACTOR * self.calm.largest_gap)
        workers = sorted(self.gateway.worker_pids())
        before = self._memory(workers)
        with self._watched(workers) as most, self._neighbour_beside() as seen:
            attack()
        between = self._memory(workers)
        with self._watched(workers) as most_again, self._neighbour_beside() as seen_again:
            attack()
        after = self._memory(workers)
        growth = max(max(most[pid], most_again[pid]) - before[pid] for pid in workers)
        second_growth = max(after[pid] - between[pid] for pid in workers)
        gap = max(seen[0].largest_gap, seen_again[0].largest_gap)
        say(
            f"largest gap {gap:.2f} s (calm {self.calm.largest_gap:.2f} s); slowest /health "
            f"{max(seen[0].slowest_health, seen_again[0].slowest_health):.2f} s, webhook "
            f"{max(seen[0].slowest_webhook, seen_again[0].slowest_webhook):.2f} s; memory "
            f"+{growth / MIB:.1f} MiB, left by the second {second_growth / MIB:+.1f} MiB"
        )
        assert sorted(self.gateway.worker_pids()) == workers
        assert seen[0].problems + seen_again[0].problems == []
        assert gap < allowed
        assert growth < MOST_GROWTH
        assert second_growth < MOST_SECOND_GROWTH

    @cached_property
    def calm(self) -> Seen:
        """The neighbour's view without an attack."""
        with self._neighbour_beside() as seen:
            time.sleep(CALM_SECONDS)
        assert seen[0].problems == []
        return seen[0]

    @contextmanager
    def _neighbour_beside(self) -> Iterator[list[Seen]]:
        """Run the neighbour during the block; the list holds what it saw at the block's end."""
        found: list[Seen] = []
        command = [sys.executable, "-m", "tests.abuse.neighbour", str(self.port)]
        process = subprocess.Popen(
            [*command, self._neighbour.key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
        )
        try:
            self._wait_for_stream()
            yield found
            output, _ = process.communicate(timeout=120)
        except BaseException:
            process.kill()
            process.wait()
            raise
        assert process.returncode == 0
        found.append(Seen(**json.loads(output)))

    def _wait_for_stream(self) -> None:
        books = self.stack.books
        wait_for(lambda: books.open_holds(self._neighbour) > 0, "the neighbour's stream", 60)

    @staticmethod
    def _memory(workers: list[int]) -> dict[int, int]:
        return {pid: psutil.Process(pid).memory_info().rss for pid in workers}

    @contextmanager
    def _watched(self, workers: list[int]) -> Iterator[dict[int, int]]:
        """Record the most memory that each worker has during the block, in bytes."""
        most = self._memory(workers)
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                for pid in workers:
                    try:
                        now = psutil.Process(pid).memory_info().rss
                    except psutil.NoSuchProcess:
                        return
                    most[pid] = max(most[pid], now)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield most
        finally:
            over.set()
            thread.join()
