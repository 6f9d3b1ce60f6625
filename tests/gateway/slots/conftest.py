"""Schedulers, like those of several processes, on one Redis and one simulated server."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from promptly.gateway.fatal_bodies import FatalBodies
from promptly.gateway.slots import local_queue, requests
from promptly.gateway.slots import scheduler as scheduling
from promptly.gateway.slots.exchange import Terms
from promptly.gateway.slots.requests import Lease, ServiceClass, SlotRequest
from promptly.gateway.slots.scheduler import SlotScheduler
from promptly.gateway.upstreams import UpstreamPool
from promptly.runtime import redis_client
from promptly.runtime.redis_client import HotPathRedis
from promptly.secret import Secret
from sandbox.llama import SimulatedLlama
from tests.gateway.slots.simulation import Simulation
from tests.support.books import wait_for
from tests.support.servers import make_settings
from tests.support.slots import name_slots

MakeScheduler = Callable[..., SlotScheduler]


def scheduler_on(redis_url: str, pool: UpstreamPool, **terms: object) -> SlotScheduler:
    """Return the scheduler of one more process on this Redis."""
    hot = HotPathRedis(redis_url)
    return SlotScheduler(hot, pool, FatalBodies(hot, Secret("pepper")), Terms(**terms))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def three_slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(tmp_path_factory.mktemp("slots"), slots=3).start()
    yield server
    server.stop()


@pytest.fixture
def made() -> Iterator[list[SlotScheduler]]:
    """Schedulers that are to end with the test, and to leave no slot taken."""
    made: list[SlotScheduler] = []
    yield made
    for scheduler in made:
        # The scheduler's thread lives on and must not renew anything during the next test.
        for queue in scheduler._queues.values():
            for slot_request in [*queue.held.values(), *queue.waiting.values()]:
                scheduler.release(slot_request)
    wait_for(
        lambda: all(
            not queue.released for scheduler in made for queue in scheduler._queues.values()
        ),
        "the end of all schedulers",
    )


@pytest.fixture
def make_scheduler(
    three_slots: SimulatedLlama, redis_url: str, made: list[SlotScheduler]
) -> MakeScheduler:
    """Factory of schedulers, like those of several processes, on one Redis."""
    settings = make_settings(llama_base_url=(three_slots.url,))

    def make(url: str = redis_url, **terms: object) -> SlotScheduler:
        made.append(scheduler_on(url, UpstreamPool(settings), **terms))
        return made[-1]

    return make


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let leases expire that are not renewed for half a second."""
    monkeypatch.setattr(requests, "TTL_MS", 500)
    monkeypatch.setattr(scheduling, "RENEW_SECONDS", 0.1)


Simulate = Callable[..., Simulation]


@pytest.fixture
def simulate(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """Factory of one simulation, in whose time the schedulers live."""
    # It takes as long as it needs, and renews no lease.
    monkeypatch.setattr(requests, "TTL_MS", 100_000_000)
    monkeypatch.setattr(requests, "SILENT_MS", 100_000_000)
    monkeypatch.setitem(redis_client.TIMEOUTS, "socket_timeout", 30.0)

    def make(*slots: int, **fields: Any) -> Simulation:
        simulation = Simulation(redis_url, slots, **fields)
        for module in (requests, local_queue, scheduling):
            monkeypatch.setattr(module, "time", simulation)
        simulation.begin()
        return simulation

    return make


def know_slots(scheduler: SlotScheduler, redis_url: str, server: str) -> None:
    """Let the state be so old that every process has reported its leases: slots are named."""
    first = scheduler.request(999)
    assert granted(first)
    scheduler.release(first)
    name_slots(redis_url, server)


def running(*slot_requests: SlotRequest) -> list[bool]:
    return [slot_request.lease is not None for slot_request in slot_requests]


def wait_in_line(
    scheduler: SlotScheduler,
    account: int,
    service_class: ServiceClass = ServiceClass.PAYING,
    **fields: object,
) -> SlotRequest:
    """Request a slot and wait until it is queued in Redis, so that later requests follow it."""
    slot_request = scheduler.request(account, service_class=service_class, **fields)  # type: ignore[arg-type]
    wait_for(lambda: slot_request.queued, f"a request of {account} in the queue")
    return slot_request


def granted(slot_request: SlotRequest, timeout_seconds: float = 10.0) -> Lease | None:
    slot_request.changed.wait(timeout_seconds)
    return slot_request.granted()


def take_all(scheduler: SlotScheduler, account: int, count: int = 3) -> list[SlotRequest]:
    slot_requests = [scheduler.request(account) for _ in range(count)]
    assert all(granted(slot_request) for slot_request in slot_requests)
    return slot_requests


def slots_keys(redis_url: str) -> dict[str, int]:
    """Return the remaining time of each key in Redis, in milliseconds; -1 if it never expires."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return {key: int(client.pttl(key)) for key in client.keys("promptly:*")}
