"""Newcomers start almost at once, however much others have queued; tokens are shared evenly."""

import statistics

import pytest

from promptly.gateway.slots.exchange import Terms
from promptly.gateway.slots.requests import OUTPUT_WEIGHT, ServiceClass
from tests.gateway.slots.conftest import Simulate
from tests.gateway.slots.simulation import Job, Simulation
from tests.support.process_stack import say

# Each heavy account keeps as many requests in the system.
IN_SYSTEM = 8
NEWCOMERS = 15


def keep_busy(
    simulation: Simulation, account: int, prompt_tokens: int = 1000, output_tokens: int = 100
) -> None:
    """Let an account keep IN_SYSTEM requests in the system."""

    def submit_again(job: Job) -> None:
        submit(job.process)

    def submit(process: int) -> None:
        simulation.submit(
            Job(account, process, prompt_tokens, output_tokens, 0.0, on_end=submit_again)
        )

    for number in range(IN_SYSTEM):
        submit((account + number) % simulation.processes)


@pytest.mark.parametrize("processes", [2, pytest.param(1, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(("slots", "heavy"), [(1, 1), (1, 3), (2, 2), (4, 4), (4, 8), (8, 8)])
def test_a_newcomer_waits_a_service_time_at_most(
    simulate: Simulate, slots: int, heavy: int, processes: int
) -> None:
    # Not all in step: a request takes between half a service time and one and a half.
    simulation = simulate(
        slots,
        processes=processes,
        seconds_of=lambda job: 0.5 + (job.made_at * 7.3 + job.account) % 1.0,
    )
    for account in range(1, heavy + 1):
        keep_busy(simulation, account)
    newcomers: list[Job] = []

    def come() -> None:
        number = len(newcomers)
        newcomers.append(Job(1000 + number, number % processes, 1000, 100, 0.0))
        simulation.submit(newcomers[-1])
        if len(newcomers) < NEWCOMERS:
            simulation.at(simulation.now + 1.37, come)

    simulation.at(3.0, come)
    simulation.run(lambda: len(newcomers) == NEWCOMERS and all(job.ended_at for job in newcomers))
    waits = sorted(job.wait for job in newcomers)
    assert statistics.median(waits) <= 1.0
    assert waits[int(len(waits) * 0.95)] <= 2.0
    # Idle slots: from a request's end until another process polls.
    work = simulation.busy_seconds - sum(
        simulation.seconds_of(job) - (simulation.now - (job.started_at or 0.0))
        for job in simulation.running()
    )
    say(
        f"{slots} slots, {heavy} heavy accounts, {processes} processes: newcomers wait "
        f"{statistics.median(waits):.2f} service times, p95 {waits[int(len(waits) * 0.95)]:.2f}; "
        f"slots worked {work / slots / simulation.now:.1%} of the time"
    )
    assert work >= 0.98 * slots * simulation.now


@pytest.mark.parametrize(("slots", "processes"), [(1, 1), (4, 2)])
def test_large_prompts_get_no_more_than_small_ones(
    simulate: Simulate, slots: int, processes: int
) -> None:
    simulation = simulate(slots, processes=processes, seconds_of=lambda job: job.cost / 2000)
    large, small = 1, 2
    keep_busy(simulation, small, prompt_tokens=500)
    keep_busy(simulation, large, prompt_tokens=50_000)
    most = 0.0
    while simulation.now < 60:
        simulation.step()
        served = {large: 0.0, small: 0.0}
        for job in simulation.done:
            served[job.account] += job.cost
        for job in simulation.running():
            served[job.account] += (simulation.now - (job.started_at or 0.0)) * 2000
        most = max(most, abs(served[large] - served[small]))
        assert most <= 2 * (50_000 + OUTPUT_WEIGHT * 100)
    say(f"{slots} slots, {processes} processes: {most:.0f} tokens apart at most")


def test_a_crowd_of_trials_delays_no_paying_account(simulate: Simulate) -> None:
    simulation = simulate(4, processes=2, terms=Terms(max_queued=256, trial_weight=4))
    crowd: list[Job] = []

    def trial(account: int) -> None:
        crowd.append(Job(account, account % 2, 1000, 100, 0.0, ServiceClass.TRIAL))
        crowd[-1].on_end = lambda job: trial(job.account)
        simulation.submit(crowd[-1])

    for account in range(1, 301):
        trial(account)
    simulation.run(lambda: simulation.now >= 0.1)
    assert sum(job.refused for job in crowd) == 300 - 256 - 4
    paying: list[Job] = []

    def come() -> None:
        paying.append(Job(1000 + len(paying) % 5, len(paying) % 2, 1000, 100, 0.0))
        simulation.submit(paying[-1])
        if len(paying) < 40:
            simulation.at(simulation.now + 0.4, come)

    simulation.at(2.0, come)
    simulation.run(lambda: len(paying) == 40 and all(job.ended_at for job in paying))
    waits = sorted(job.wait for job in paying)
    say(f"paying accounts wait {waits[int(len(waits) * 0.95)]:.2f} service times at p95")
    assert waits[int(len(waits) * 0.95)] < 2.0
    # Trials have got their share meanwhile.
    trials = [job for job in simulation.done if job.service_class == ServiceClass.TRIAL]
    assert sum(job.started_at is not None and job.started_at > 2.0 for job in trials) >= 10
