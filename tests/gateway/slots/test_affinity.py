"""Conversations come back to the slot that has them cached, as far as that is fair to others."""

import statistics
from dataclasses import dataclass

import pytest
import redis

from promptly.gateway.prefix_chain import PrefixLink
from promptly.gateway.slots.exchange import queue_key
from promptly.gateway.slots.requests import OUTPUT_WEIGHT
from promptly.gateway.slots.scheduler import GENERATION, POLL_SECONDS
from promptly.runtime import request_metrics
from tests.gateway.slots.conftest import Simulate
from tests.gateway.slots.simulation import Job, Simulation
from tests.support.process_stack import say

TOKENS_PER_SECOND = 2000
OUTPUT_PER_SECOND = 50


def read_seconds(job: Job) -> float:
    return (job.prompt_tokens - job.cached_tokens) / TOKENS_PER_SECOND


def seconds_of(job: Job) -> float:
    return read_seconds(job) + job.output_tokens / OUTPUT_PER_SECOND


def conversation(account: int, name: str, *sizes: int) -> tuple[PrefixLink, ...]:
    """Return the links of a conversation whose prompts had these sizes."""
    return tuple(PrefixLink(f"{account}:{name}:{size}", size) for size in sizes)


@dataclass
class Agents:
    """Agents, each an account with one conversation, and a pause between its turns."""

    simulation: Simulation
    count: int
    turns: int
    new_tokens: int
    remembers: bool = True
    output_tokens: int = 50
    pause_seconds: float = 0.1

    def start(self) -> None:
        self.jobs: list[Job] = []
        for agent in range(1, self.count + 1):
            self._turn(agent, 1)

    def _turn(self, agent: int, turn: int) -> None:
        def go_on(job: Job) -> None:
            if turn < self.turns:
                due = self.simulation.now + self.pause_seconds
                self.simulation.at(due, lambda: self._turn(agent, turn + 1))

        sizes = [self.new_tokens * number for number in range(1, turn + 1)][-16:]
        chain = conversation(agent, "a", *sizes) if self.remembers else ()
        job = Job(agent, agent % self.simulation.processes, sizes[-1], self.output_tokens, 0.0)
        job.chain, job.on_end = chain, go_on
        self.jobs.append(job)
        self.simulation.submit(job)

    @property
    def done(self) -> bool:
        return len(self.jobs) == self.count * self.turns and all(job.ended_at for job in self.jobs)

    def cached_share(self) -> float:
        return sum(job.cached_tokens for job in self.jobs) / sum(
            job.prompt_tokens - self.new_tokens for job in self.jobs
        )

    def first_token_seconds(self) -> float:
        return statistics.median(job.wait + read_seconds(job) for job in self.jobs)


def run_agents(simulation: Simulation, agents: Agents) -> None:
    """Run them to their end; while two wait, what they were served differs by two requests."""
    agents.start()
    most = agents.turns * agents.new_tokens + OUTPUT_WEIGHT * agents.output_tokens
    since = 0.0
    while not agents.done:
        simulation.step()
        if simulation.now - since < 1.0:
            continue
        since = simulation.now
        served: dict[int, float] = {job.account: 0.0 for job in agents.jobs}
        for job in simulation.done:
            served[job.account] = served.get(job.account, 0.0) + job.cost
        busy = [job.account for job in agents.jobs if job.ended_at is None]
        figures = [served[account] for account in busy]
        if len(figures) == agents.count:
            assert max(figures) - min(figures) <= 2 * most


@pytest.mark.parametrize(
    ("count", "turns", "new_tokens"),
    [(6, 8, 3000), pytest.param(12, 20, 3000, marks=pytest.mark.exhaustive)],
)
def test_agents_find_their_caches(
    simulate: Simulate, count: int, turns: int, new_tokens: int
) -> None:
    slots = (2, 2) if count == 6 else (4, 4)
    runs = []
    for remembers in (True, False):
        simulation = simulate(*slots, processes=2, seconds_of=seconds_of, read_seconds=read_seconds)
        runs.append(Agents(simulation, count, turns, new_tokens, remembers))
        run_agents(simulation, runs[-1])
    cached, blind = runs
    say(
        f"{count} agents, {turns} turns: {cached.cached_share():.2f} cached, first token after "
        f"{cached.first_token_seconds():.1f} s instead of {blind.first_token_seconds():.1f} s"
    )
    assert cached.cached_share() >= 0.9
    assert cached.first_token_seconds() * 5 <= blind.first_token_seconds()


def test_newcomers_do_not_wait_for_conversations(simulate: Simulate) -> None:
    simulation = simulate(2, 2, processes=2, seconds_of=seconds_of, read_seconds=read_seconds)
    agents = Agents(simulation, count=8, turns=12, new_tokens=3000)
    newcomers: list[Job] = []

    def come() -> None:
        number = len(newcomers)
        newcomers.append(Job(1000 + number, number % 2, 3000, 50, 0.0))
        simulation.submit(newcomers[-1])
        if number < 8:
            simulation.at(simulation.now + 3.1, come)

    simulation.at(6.0, come)
    run_agents(simulation, agents)
    service = statistics.median(seconds_of(job) for job in simulation.done)
    waits = sorted(job.wait for job in newcomers)
    assert statistics.median(waits) <= service
    assert waits[-1] <= 2 * service
    assert agents.cached_share() >= 0.7


def submit(
    simulation: Simulation, account: int, prompt_tokens: int, *sizes: int, output_tokens: int = 50
) -> Job:
    job = Job(account, 0, prompt_tokens, output_tokens, 0.0)
    job.chain = conversation(account, "a", *sizes)
    simulation.submit(job)
    return job


def place(job: Job) -> tuple[str, int]:
    assert job.request is not None and job.request.lease is not None
    return job.request.lease.upstream.name, job.request.lease.slot


def hits_cache(job: Job) -> bool:
    assert job.request is not None and job.request.lease is not None
    return job.request.lease.hits_cache


@pytest.fixture
def warm(simulate: Simulate) -> Simulation:
    """One server with two slots, whose speed is known."""
    simulation = simulate(2, seconds_of=seconds_of, read_seconds=read_seconds)
    for account in range(100, 104):
        submit(simulation, account, 2000)
    simulation.run(lambda: len(simulation.done) == 4)
    return simulation


def test_a_request_waits_for_its_slot_if_reading_anew_took_longer(warm: Simulation) -> None:
    grants = request_metrics._grants
    before = {found: counter.total() for found, counter in grants.items()}
    first = submit(warm, 1, 40_000, 39_000, 40_000)
    warm.run(lambda: first in warm.done)
    again = submit(warm, 1, 40_100, 39_000, 40_000, 40_100)
    assert place(again) == place(first)
    assert [hits_cache(job) for job in (first, again)] == [False, True]
    # Another slot is free, but would read 40,000 tokens: 20 s.
    parallel = submit(warm, 1, 40_200, 39_000, 40_000, 40_200)
    assert parallel.started_at is None
    warm.run(lambda: parallel in warm.done)
    assert place(parallel) == place(first)
    assert parallel.cached_tokens == 40_000
    assert parallel.wait < 2
    assert hits_cache(parallel)
    assert [grants[found].total() - before[found] for found in ("hit", "miss")] == [2, 1]


def test_a_request_takes_another_slot_if_its_own_is_busy_for_long(warm: Simulation) -> None:
    first = submit(warm, 1, 800, 700, 800)
    warm.run(lambda: first in warm.done)
    submit(warm, 1, 900, 700, 800, 900, output_tokens=2000)
    # Waiting would save 0.4 s.
    parallel = submit(warm, 1, 1000, 700, 800, 1000)
    assert parallel.wait == 0
    assert place(parallel) != place(first)


def test_a_request_that_waited_for_its_slot_in_vain_takes_another_one(warm: Simulation) -> None:
    first = submit(warm, 1, 8000, 7900, 8000)
    warm.run(lambda: first in warm.done)
    submit(warm, 1, 8100, 7900, 8000, 8100, output_tokens=5000)
    parallel = submit(warm, 1, 8200, 7900, 8000, 8200)
    assert parallel.started_at is None
    warm.run(lambda: parallel in warm.done)
    # It waited for as long as it could have saved.
    assert 3.9 <= parallel.wait <= 4.5
    assert place(parallel) != place(first)


def test_a_slot_is_kept_for_an_account_that_comes_back(warm: Simulation) -> None:
    no_newcomer = submit(warm, 3, 500)
    warm.run(lambda: no_newcomer in warm.done)
    agent = submit(warm, 1, 8000, 7000, 8000)
    submit(warm, 2, 40_000)
    other = submit(warm, 3, 8000)
    warm.run(lambda: agent in warm.done)
    warm.run_for(0.3)
    assert other.started_at is None
    again = submit(warm, 1, 8100, 7000, 8000, 8100)
    assert place(again) == place(agent)
    # It does not come back again.
    warm.run(lambda: other.started_at is not None)
    assert again.ended_at is not None and other.started_at is not None
    assert other.started_at - again.ended_at <= 1.0 + 2 * POLL_SECONDS


def test_no_slot_is_kept_for_an_account_that_does_not_come_back(warm: Simulation) -> None:
    no_newcomer = submit(warm, 3, 500)
    warm.run(lambda: no_newcomer in warm.done)
    submit(warm, 2, 400_000)

    def pause(number: int) -> float:
        """Return how long another one waits after a conversation's end."""
        last = submit(warm, 1, 8000, 7000 + number, 8000 + number)
        # It runs for five seconds.
        warm.run_for(4.5)
        other = submit(warm, 3, 2000)
        warm.run(lambda: other in warm.done)
        assert last.ended_at is not None and other.started_at is not None
        return other.started_at - last.ended_at

    assert pause(0) > 0.5
    assert pause(1) == pause(2) == 0.0
    # It comes back while nobody waits.
    first = submit(warm, 1, 8000, 7500, 8000)
    warm.run(lambda: first in warm.done)
    warm.run_for(0.5)
    again = submit(warm, 1, 8100, 7500, 8000, 8100)
    warm.run(lambda: again in warm.done)
    assert again.cached_tokens == 8000
    assert pause(3) > 0.5


def test_a_newcomer_takes_the_slot_whose_cache_is_worth_least(warm: Simulation) -> None:
    small = submit(warm, 1, 500, 500)
    large = submit(warm, 2, 60_000, 60_000)
    warm.run(lambda: large in warm.done)
    assert small.ended_at is not None and large.ended_at is not None
    newcomer = submit(warm, 3, 500, 500)
    assert place(newcomer) == place(small)


def test_the_index_of_prefixes_does_not_grow(warm: Simulation, redis_url: str) -> None:
    for number in range(40):
        sizes = range(1000 + number, 17_000 + number, 1000)
        job = submit(warm, 1 + number % 3, sizes[-1], *sizes, output_tokens=1)
        warm.run(lambda job=job: job in warm.done)  # type: ignore[misc]
    with redis.Redis.from_url(redis_url) as client:
        assert client.hlen(f"{queue_key(GENERATION)}:prefixes") <= 2 * 16
        assert not client.keys(f"{queue_key(GENERATION)}:wanters:*")
