"""Batch requests yield to all others, but are not forgotten, and use idle slots at once."""

from promptly.gateway.slots.requests import ServiceClass
from tests.gateway.slots.conftest import Simulate
from tests.gateway.slots.simulation import Job, Simulation
from tests.gateway.slots.test_fairness import keep_busy

# BATCH_MS of the script.
BATCH_SECONDS = 30.0
SECONDS = 100.0


def submit(simulation: Simulation) -> Job:
    job = Job(5, 0, 1000, 100, 0.0, ServiceClass.BATCH)
    simulation.submit(job)
    return job


def test_a_batch_request_gets_one_slot_in_a_while_where_others_wait(simulate: Simulate) -> None:
    simulation = simulate(1)
    keep_busy(simulation, 1)
    jobs = [submit(simulation) for _ in range(5)]
    simulation.run(lambda: simulation.now >= SECONDS)
    starts = [job.started_at for job in jobs if job.started_at is not None]
    assert len(starts) == 3
    gaps = [after - before for before, after in zip([0.0, *starts], starts, strict=False)]
    assert all(BATCH_SECONDS <= gap <= BATCH_SECONDS + 3 for gap in gaps)


def test_idle_slots_are_used_at_once(simulate: Simulate) -> None:
    simulation = simulate(2)
    jobs = [submit(simulation) for _ in range(5)]
    assert [job.started_at for job in jobs] == [0.0, 0.0, None, None, None]
    simulation.run(lambda: all(job.ended_at for job in jobs))
    assert max(job.wait for job in jobs) <= 2.0
