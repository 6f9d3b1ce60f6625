"""Positions of waiting requests are the order in which they are served; waits are estimated."""

import uuid
from collections.abc import Iterable, Sequence

import pytest

from promptly.gateway.slots import place_refresher
from promptly.gateway.slots.exchange import Terms
from promptly.gateway.slots.key_index import KeyIndex
from promptly.gateway.slots.local_queue import LocalQueue
from promptly.gateway.slots.place_refresher import MOST_REQUESTS, PlaceRefresher
from promptly.gateway.slots.places import Places, Waiting
from promptly.gateway.slots.requests import Place, RequestOrigin, ServiceClass, SlotRequest
from promptly.gateway.slots.scheduler import GENERATION, SlotScheduler
from promptly.request_ids import public_id
from promptly.runtime.redis_client import HotPathRedis
from tests.gateway.slots.conftest import (
    MakeScheduler,
    Simulate,
    granted,
    take_all,
    wait_in_line,
)
from tests.gateway.slots.simulation import Job, Simulation
from tests.support.books import wait_for

PAYING, TRIAL, BATCH = ServiceClass
AWAY = "redis://127.0.0.1:1/0"


def submit(simulation: Simulation, account: int, service_class: ServiceClass = PAYING) -> Job:
    job = Job(account, account % simulation.processes, 1000, 100, 0.0, service_class)
    simulation.submit(job)
    return job


def waiting(slot_request: SlotRequest) -> Waiting:
    item = slot_request
    return Waiting(item.id, item.service_class, item.lane(), item.account)


def places_of(simulation: Simulation, jobs: list[Job]) -> list[Place | None]:
    found = simulation.schedulers[0]._places
    return found.find(
        GENERATION, [waiting(job.request) for job in jobs if job.request], simulation.urls
    )


def test_requests_are_served_in_the_order_of_their_positions(simulate: Simulate) -> None:
    simulation = simulate(1, processes=2, read_seconds=lambda job: 0.1)
    first = [submit(simulation, 9) for _ in range(3)]
    simulation.run(lambda: all(job.ended_at for job in first))
    running = submit(simulation, 9)
    # A trial's token counts four times: the second trial waits for several paying requests.
    accounts = [(1, PAYING), (4, TRIAL), (1, PAYING), (1, PAYING), (2, PAYING), (6, BATCH),
                (3, PAYING), (3, PAYING), (5, TRIAL), (4, TRIAL), (2, PAYING)]  # fmt: skip
    jobs = [submit(simulation, account, kind) for account, kind in accounts]
    places = places_of(simulation, jobs)
    positions = [place.position for place in places if place is not None]
    assert sorted(positions) == list(range(1, len(jobs) + 1))
    # One slot, and a second for each request.
    assert [place.wait_seconds for place in places if place is not None] == positions
    simulation.run(lambda: all(job.ended_at for job in jobs))
    served = sorted(jobs, key=lambda job: job.started_at or 0.0)
    assert [served.index(job) + 1 for job in jobs] == positions
    assert places_of(simulation, [running, *jobs]) == [None] * 12


def test_several_slots_shorten_the_wait(simulate: Simulate) -> None:
    simulation = simulate(2, 2, seconds_of=lambda job: 4.0, read_seconds=lambda job: 0.1)
    first = [submit(simulation, account) for account in range(1, 5)]
    waits = [submit(simulation, account) for account in range(11, 17)]
    # Nothing was measured yet.
    assert places_of(simulation, waits[:1]) == [Place(1, None)]
    simulation.run(lambda: all(job.ended_at for job in first))
    waits += [submit(simulation, account) for account in range(21, 24)]
    places = places_of(simulation, waits[4:])
    assert places == [Place(number, number) for number in range(1, 6)]


def test_a_request_that_waits_for_its_cache_is_next_there(
    redis_url: str, simulate: Simulate
) -> None:
    simulation = simulate(2, read_seconds=lambda job: 0.1)
    hot = HotPathRedis(redis_url)
    # As the script stores it: known, but in no line.
    hot.command("HSET", f"promptly:slots2:queue:{GENERATION}:requests", "p.1", b"\x80")
    places = simulation.schedulers[0]._places
    deferred = Waiting("p.1", PAYING, PAYING, 1)
    assert places.find(GENERATION, [deferred], simulation.urls) == [Place(1, None)]
    assert places.find("another", [deferred], simulation.urls) == [None]


def origin(key_id: int) -> RequestOrigin:
    return RequestOrigin(key_id, uuid.uuid4(), "chat.completions")


def listed(scheduler: SlotScheduler, key_id: int) -> list[tuple[str, int]]:
    return [(item.entry.request_id, item.place.position) for item in scheduler.of_key(key_id)]


def test_every_process_lists_the_waiting_requests_of_a_key(make_scheduler: MakeScheduler) -> None:
    one, other = make_scheduler(), make_scheduler()
    holders = take_all(one, account=1)
    first, second, foreign = origin(7), origin(7), origin(8)
    on_one = wait_in_line(one, 2, origin=first)
    on_other = wait_in_line(other, 2, origin=second)
    wait_in_line(other, 3, origin=foreign)
    expected = {public_id(first.request_id), public_id(second.request_id)}
    for scheduler in (one, other):
        wait_for(
            lambda at=scheduler: {name for name, _ in listed(at, 7)} == expected,  # type: ignore[misc]
            "both requests of the key",
        )
    others = [public_id(foreign.request_id)]
    wait_for(lambda: [name for name, _ in listed(one, 8)] == others, "the other key's request")
    assert one.of_key(9) == []
    wait_for(lambda: on_one.place is not None and on_other.place is not None, "their places")
    [entry] = [item.entry for item in one.of_key(7) if item.entry.waiting.id == on_other.id]
    assert (entry.endpoint, entry.model) == ("chat.completions", "sim-model")
    other.release(on_other)
    wait_for(lambda: len(listed(one, 7)) == 1, "the end of the second")
    one.release(holders[0])
    assert granted(on_one) is not None
    wait_for(lambda: one.of_key(7) == [], "the end of the first")


def test_without_redis_a_process_lists_its_own(make_scheduler: MakeScheduler) -> None:
    scheduler = make_scheduler(AWAY)
    take_all(scheduler, account=1)
    trial = scheduler.request(2, service_class=TRIAL, origin=origin(7))
    paying = scheduler.request(3, origin=origin(8))
    wait_for(lambda: (trial.place, paying.place) == (Place(2, None), Place(1, None)), "places")
    assert [position for _, position in listed(scheduler, 7)] == [2]


class NotedPlaces(Places):
    """Places that note which requests are looked up."""

    def __init__(self, redis: HotPathRedis) -> None:
        super().__init__(redis, Terms())
        self.asked: list[list[str]] = []

    def find(
        self, queue: str, requests: Sequence[Waiting], servers: Iterable[str]
    ) -> list[Place | None]:
        self.asked.append([item.id for item in requests])
        return super().find(queue, requests, servers)


def test_a_crowd_takes_turns(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_refresher, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(place_refresher, "REFRESH_SECONDS", 0.0)
    hot = HotPathRedis(redis_url)
    places, queue = NotedPlaces(hot), LocalQueue(GENERATION)
    for number in range(5 * MOST_REQUESTS - 10):
        item = SlotRequest(str(number), number, "", "", PAYING, frozenset(), 1, ())
        queue.waiting[item.id] = item
    refresher = PlaceRefresher(places, KeyIndex(hot))
    for _ in range(5):
        refresher.refresh(queue, [])
    assert {len(ids) for ids in places.asked} == {MOST_REQUESTS}
    assert {name for ids in places.asked for name in ids} == set(queue.waiting)
    monkeypatch.setattr(place_refresher, "REFRESH_SECONDS", 60.0)
    refresher.refresh(queue, [])
    refresher.refresh(queue, [])
    assert len(places.asked) == 6
