"""Cost of one exchange of the slot scheduler: `python -m bench.slot_script --help`.

Each figure is the time that Redis itself reports for the script (`INFO commandstats`), without the
network: the median of the rounds. An exchange with a thousand waiting requests should cost less
than a millisecond.
"""

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from promptly.gateway.counts import Counts
from promptly.gateway.fatal_bodies import FatalBodies
from promptly.gateway.prefix_chain import PrefixLink
from promptly.gateway.slots.exchange import Terms
from promptly.gateway.slots.place_refresher import MOST_REQUESTS
from promptly.gateway.slots.places import Waiting
from promptly.gateway.slots.requests import ServiceClass, SlotRequest
from promptly.gateway.slots.scheduler import SlotScheduler
from promptly.gateway.upstreams import UpstreamPool
from promptly.runtime.redis_client import HotPathRedis
from promptly.secret import Secret
from promptly.settings import Settings
from sandbox.redis_server import EmbeddedRedis

LIMIT_US = 1000
SERVERS = 25
SLOTS = 8
WAITING = 1000
ACCOUNTS = 300
LINKS = 16
EXCHANGES = 100


class Bench:
    """A scheduler without a thread, in front of servers that need not exist."""

    def __init__(self, redis: EmbeddedRedis, servers: int) -> None:
        urls = [f"http://10.0.0.{number}:8080" for number in range(servers)]
        settings = Settings.from_mapping(
            {
                "DATABASE_URL": "postgresql://gateway@localhost/gateway",
                "REDIS_URL": redis.url,
                "LLAMA_BASE_URL": ",".join(urls),
                "GATEWAY_SECRET_KEY": "x" * 32,
                "KEY_PEPPER": "x" * 32,
            }
        )
        pool = UpstreamPool(settings)
        for upstream in pool.upstreams:
            upstream.ready = upstream.shows_slots = True
            upstream.slots, upstream.probed_at = SLOTS, float("inf")
        self.redis = HotPathRedis(redis.url)
        terms = Terms(max_queued=2 * WAITING)
        self.scheduler = SlotScheduler(
            self.redis, pool, FatalBodies(self.redis, Secret("pepper")), terms
        )
        self.scheduler._start = lambda: None  # type: ignore[method-assign]
        self.scheduler._looks.start = lambda *look: None  # type: ignore[method-assign]
        # Looking up places is measured by itself.
        self.scheduler._place_refresher.refresh = lambda *_: None  # type: ignore[method-assign]
        self.queue = self.scheduler._queue("", "")
        self._know_slots(urls)

    def _know_slots(self, urls: list[str]) -> None:
        self.end(self.request(0))
        change = (
            "local fields = cmsgpack.unpack(redis.call('GET', KEYS[1])) fields[4] = 1 "
            "redis.call('SET', KEYS[1], cmsgpack.pack(fields))"
        )
        for url in urls:
            self.redis.command("EVAL", change, 1, f"promptly:slots2:record:{url}")
            self.scheduler._report(url, list(range(SLOTS)), [], 0)
        self.request(0)
        for url in urls:
            self.scheduler._report(url, list(range(SLOTS)), [], 0)
        self.exchange()

    def exchange(self) -> None:
        self.scheduler._exchange(self.queue)

    def request(
        self, account: int, service_class: ServiceClass = ServiceClass.PAYING
    ) -> SlotRequest:
        """Queue one request of a conversation that nobody knows, and exchange."""
        chain = tuple(
            PrefixLink(f"{random.getrandbits(64):016x}", 500 * (number + 1))
            for number in range(LINKS)
        )
        found = self.scheduler.request(
            account, service_class=service_class, prompt_tokens=8000, chain=chain
        )
        self.exchange()
        return found

    def end(self, request: SlotRequest) -> None:
        """End a request that was answered, for the next exchange to report."""
        counts = request.counts = Counts()
        counts.prompt_size = counts.prompt_tokens = 8000
        counts.first_token_at, counts.completion_tokens = 1.0, 100
        request.reached = True
        self.scheduler.release(request)

    def cost_us(self, act: Callable[[], None]) -> float:
        """Return the script's mean time per call while `act` runs."""
        self.redis.command("CONFIG", "RESETSTAT")
        act()
        lines = self.redis.command("INFO", "commandstats").decode().splitlines()
        [line] = [line for line in lines if line.startswith("cmdstat_evalsha:")]
        return float(line.partition("usec_per_call=")[2].partition(",")[0])


def measure(bench: Bench) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield what is measured, in this order."""

    def idle() -> None:
        for number in range(EXCHANGES // 2):
            bench.end(bench.request(number % ACCOUNTS))
            bench.exchange()

    yield "idle: a request, then its end", idle
    for number in range(SERVERS * SLOTS + WAITING):
        classes = list(ServiceClass)
        bench.request(number % ACCOUNTS, classes[number % len(classes)])

    def poll() -> None:
        for _ in range(EXCHANGES):
            bench.exchange()

    yield f"{WAITING} wait: a poll", poll

    def replace() -> None:
        for number in range(EXCHANGES):
            bench.end(next(iter(bench.queue.held.values())))
            bench.request(number % ACCOUNTS)

    yield f"{WAITING} wait: an end, a grant, a request", replace

    requests = [
        Waiting(item.id, item.service_class, item.lane(), item.account)
        for item in bench.queue.waiting.values()
    ]
    names = [upstream.name for upstream in bench.scheduler._pool.upstreams]

    def look() -> None:
        for _ in range(EXCHANGES):
            bench.scheduler._places.find(bench.queue.name, requests[:MOST_REQUESTS], names)

    yield f"{WAITING} wait: places of {MOST_REQUESTS}", look


def main() -> int:
    """Print the table; return 1 if an exchange costs too much."""
    parser = argparse.ArgumentParser(description="Cost of one exchange of the slot scheduler.")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        redis = EmbeddedRedis(Path(folder) / "redis")
        redis.start()
        try:
            bench = Bench(redis, SERVERS)
            for name, act in measure(bench):
                cost_us = statistics.median(bench.cost_us(act) for _ in range(rounds))
                missed = missed or cost_us > LIMIT_US
                sys.stdout.write(f"{name:<44} {cost_us:7.0f} us\n")
        finally:
            redis.stop()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
