"""Model servers and clients in simulated time, in front of real schedulers, script and Redis.

A scheduler has no thread here: the simulation does its exchanges, at once when a request comes or
ends, and every POLL_SECONDS of simulated time while others may have done something for it.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from promptly.gateway.counts import Counts
from promptly.gateway.fatal_bodies import FatalBodies
from promptly.gateway.prefix_chain import PrefixLink
from promptly.gateway.slots.exchange import Terms
from promptly.gateway.slots.requests import OUTPUT_WEIGHT, ServiceClass, SlotRequest
from promptly.gateway.slots.scheduler import POLL_SECONDS, SlotScheduler
from promptly.gateway.upstreams import UpstreamPool
from promptly.runtime import redis_client
from promptly.runtime.redis_client import HotPathRedis
from promptly.secret import Secret
from tests.support.servers import make_settings
from tests.support.slots import name_slots


@dataclass(eq=False)
class Job:
    """A request of a client: what it costs, and when it was made, started and ended."""

    account: int
    process: int
    prompt_tokens: int
    output_tokens: int
    made_at: float
    service_class: ServiceClass = ServiceClass.PAYING
    chain: tuple[PrefixLink, ...] = ()
    on_end: Callable[["Job"], None] | None = None
    request: SlotRequest | None = None
    started_at: float | None = None
    ended_at: float | None = None
    cached_tokens: int = 0
    refused: bool = False

    @property
    def wait(self) -> float:
        assert self.started_at is not None
        return self.started_at - self.made_at

    @property
    def cost(self) -> int:
        return self.prompt_tokens - self.cached_tokens + OUTPUT_WEIGHT * self.output_tokens


@dataclass
class Slot:
    """The job that runs in a slot, and the prefixes that its cache holds."""

    job: Job | None = None
    chain: tuple[PrefixLink, ...] = ()
    owner: int = 0


@dataclass
class Simulation:
    """Servers with as many slots each; `seconds_of` is how long a job runs."""

    redis_url: str
    slots: tuple[int, ...]
    processes: int = 1
    seconds_of: Callable[[Job], float] = lambda job: 1.0
    read_seconds: Callable[[Job], float] = lambda job: 0.0
    terms: Terms = field(default_factory=Terms)
    now: float = 0.0
    done: list[Job] = field(default_factory=list)
    busy_seconds: float = 0.0

    def begin(self) -> None:
        self.urls = [f"http://10.0.0.{number}:8080" for number in range(len(self.slots))]
        self.table = {
            url: [Slot() for _ in range(count)]
            for url, count in zip(self.urls, self.slots, strict=True)
        }
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waiting: list[list[Job]] = [[] for _ in range(self.processes)]
        self.schedulers = [self._scheduler() for _ in range(self.processes)]
        self._know_slots()
        for process in range(self.processes):
            self.at(POLL_SECONDS * (process + 1) / self.processes, self._poller(process))

    def monotonic(self) -> float:
        """The time of the modules under test."""
        return 1000.0 + self.now

    def _scheduler(self) -> SlotScheduler:
        pool = UpstreamPool(make_settings(llama_base_url=tuple(self.urls)))
        for upstream, count in zip(pool.upstreams, self.slots, strict=True):
            upstream.ready = upstream.shows_slots = True
            upstream.slots = count
            upstream.probed_at = float("inf")
        # On a busy machine a late answer would make the process grant slots by itself.
        with patch.dict(redis_client.TIMEOUTS, socket_timeout=60.0, socket_connect_timeout=60.0):
            hot = HotPathRedis(self.redis_url)
        scheduler = SlotScheduler(hot, pool, FatalBodies(hot, Secret("pepper")), self.terms)
        exchange = scheduler._exchange_with_redis
        script = hot.script(exchange.source.replace("redis.call('TIME')", "cjson.decode(ARGV[2])"))

        def at_simulated_time(keys: list[str], arguments: list[Any], *_: object) -> Any:
            seconds, part = divmod(round(self.now * 1_000_000), 1_000_000)
            return script(keys, [*arguments, f"[{1_700_000_000 + seconds},{part}]"])

        exchange._script = at_simulated_time  # type: ignore[assignment]
        scheduler._start = lambda: None  # type: ignore[method-assign]
        scheduler._looks.start = lambda *look: None  # type: ignore[method-assign]
        return scheduler

    def _know_slots(self) -> None:
        scheduler = self.schedulers[0]
        for _ in range(2):
            request = scheduler.request(0)
            self._exchange(0)
            scheduler.release(request)
            self._exchange(0)
            for url in self.urls:
                name_slots(self.redis_url, url)
            for url, slots in self.table.items():
                scheduler._report(url, list(range(len(slots))), [], 0)

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), action))

    def step(self) -> None:
        """Go on to the next event."""
        self.now, _, action = heapq.heappop(self._events)
        action()

    def run(self, until: Callable[[], bool]) -> None:
        while not until():
            self.step()

    def run_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events[0][0] <= end:
            self.step()
        self.now = end

    def submit(self, job: Job) -> None:
        """Queue a job now."""
        job.made_at = self.now
        job.request = self.schedulers[job.process].request(
            job.account,
            service_class=job.service_class,
            prompt_tokens=job.prompt_tokens,
            chain=job.chain,
        )
        self._waiting[job.process].append(job)
        self._exchange(job.process)

    def running(self) -> list[Job]:
        return [slot.job for slots in self.table.values() for slot in slots if slot.job]

    def _exchange(self, process: int) -> None:
        scheduler = self.schedulers[process]
        scheduler._exchange(scheduler._queue("", ""))
        waiting = self._waiting[process]
        for job in list(waiting):
            assert job.request is not None
            if job.request.full:
                job.refused = True
                waiting.remove(job)
            elif job.request.lease is not None:
                waiting.remove(job)
                self._start(job)

    def _start(self, job: Job) -> None:
        assert job.request is not None and job.request.lease is not None
        lease = job.request.lease
        slot = self.table[lease.upstream.name][lease.slot]
        assert slot.job is None, "two requests on one slot"
        assert not lease.reuses_cache or slot.owner == job.account, "the cache of another account"
        if lease.reuses_cache:
            held = {link.digest for link in slot.chain}
            job.cached_tokens = max(
                (link.tokens for link in job.chain if link.digest in held), default=0
            )
        slot.job, slot.chain, slot.owner = job, job.chain, job.account
        job.started_at = self.now
        seconds = self.seconds_of(job)
        self.busy_seconds += seconds
        self.at(self.now + seconds, lambda: self._end(job, slot))

    def _end(self, job: Job, slot: Slot) -> None:
        assert job.request is not None
        slot.job = None
        job.ended_at = self.now
        counts = job.request.counts = Counts()
        counts.prompt_size = counts.prompt_tokens = job.prompt_tokens
        counts.reused_tokens = counts.cached_tokens = job.cached_tokens
        counts.completion_tokens = job.output_tokens
        counts.first_token_at = 1.0
        counts.prompt_ms = round(self.read_seconds(job) * 1000)
        job.request.reached = True
        self.schedulers[job.process].release(job.request)
        self.done.append(job)
        if job.on_end is not None:
            job.on_end(job)
        self._exchange(job.process)

    def _poller(self, process: int) -> Callable[[], None]:
        def poll() -> None:
            if self._waiting[process]:
                self._exchange(process)
            self.at(self.now + POLL_SECONDS, poll)

        return poll
