"""Slots by state and waiting requests by class, as the metrics show them."""

from promptly.gateway.slots.requests import ServiceClass
from sandbox.llama import SimulatedLlama
from tests.gateway.slots.conftest import (
    MakeScheduler,
    granted,
    know_slots,
    take_all,
    wait_in_line,
)
from tests.support.books import wait_for


def test_slots_by_state(
    make_scheduler: MakeScheduler, three_slots: SimulatedLlama, redis_url: str
) -> None:
    scheduler, name = make_scheduler(), three_slots.url

    def states() -> dict[str, int]:
        found = scheduler.states().slots
        assert {server for server, _ in found} == {name}
        return {state: number for (_, state), number in found.items() if number}

    assert states() == {}
    first = scheduler.request(1)
    assert granted(first)
    # Redis has just been emptied: slots are not named yet.
    assert states() == {"free": 2, "counted": 1}
    scheduler.release(first)
    know_slots(scheduler, redis_url, name)
    holders = take_all(scheduler, account=1, count=2)
    wait_for(lambda: states() == {"leased": 2, "free": 1}, "named slots")
    looks = scheduler._looks
    looks.start = lambda *look: None  # type: ignore[method-assign]
    scheduler.release(holders[0], settled=False)
    wait_for(lambda: states() == {"leased": 1, "free": 1, "unsettled": 1}, "a slot in doubt")


def test_waiting_requests_by_class(make_scheduler: MakeScheduler) -> None:
    scheduler = make_scheduler()
    take_all(scheduler, account=1)
    for account, kind in ((2, "paying"), (2, "paying"), (3, "paying"), (3, "trial"), (4, "batch")):
        wait_in_line(scheduler, account, ServiceClass(kind))
    assert scheduler.states().waiting == {"paying": 3, "trial": 1, "batch": 1}
