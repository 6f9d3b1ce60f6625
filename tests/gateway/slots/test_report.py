"""The slots and the queue, as an operator sees them."""

import pytest

from promptly.gateway.counts import Counts
from promptly.gateway.prefix_chain import PrefixLink
from promptly.gateway.slots import report as module
from promptly.gateway.slots.report import BUSY, IDLE, UNSETTLED, ServerState
from promptly.gateway.slots.requests import ServiceClass, SlotRequest
from promptly.gateway.slots.scheduler import SlotScheduler
from promptly.runtime.redis_client import RedisUnavailable
from sandbox.llama import SimulatedLlama
from tests.gateway.slots.conftest import (
    MakeScheduler,
    granted,
    know_slots,
    slots_keys,
    take_all,
    wait_in_line,
)
from tests.support.books import wait_for

CHAIN = (PrefixLink("a:100", 100),)


@pytest.fixture
def scheduler(
    make_scheduler: MakeScheduler, redis_url: str, three_slots: SimulatedLlama
) -> SlotScheduler:
    scheduler = make_scheduler()
    know_slots(scheduler, redis_url, three_slots.url)
    return scheduler


def state_of(scheduler: SlotScheduler) -> ServerState:
    [server] = scheduler.report().servers.values()
    return server


def finish(scheduler: SlotScheduler, slot_request: SlotRequest, *, settled: bool = True) -> None:
    """End a request of 100 prompt tokens, which took a second to process."""
    counts = slot_request.counts = Counts()
    counts.prompt_size = counts.prompt_tokens = 100
    counts.first_token_at, counts.prompt_ms = 1.0, 1000
    slot_request.reached = True
    scheduler.release(slot_request, settled=settled)


def test_slots_and_their_conversations(scheduler: SlotScheduler) -> None:
    first = scheduler.request(7, prompt_tokens=100, chain=CHAIN)
    assert granted(first) is not None
    other = scheduler.request(8, service_class=ServiceClass.TRIAL, prompt_tokens=40)
    assert granted(other) is not None
    server = state_of(scheduler)
    assert server.named and server.running == 2
    assert (server.count(BUSY), server.count(IDLE)) == (2, 1)
    busy = {slot.account: slot for slot in server.slots if slot.state == BUSY}
    assert busy[7].owner == 7 and busy[7].cached_tokens == 100
    assert busy[8].service_class == "trial"
    assert busy[7].busy_seconds is not None and busy[7].busy_seconds < 60
    assert server.prompt_tokens_per_second is None
    number = busy[7].number
    finish(scheduler, first)
    wait_for(lambda: state_of(scheduler).count(IDLE) == 2, "the slot is idle")
    server = state_of(scheduler)
    [kept] = [slot for slot in server.slots if slot.number == number]
    assert (kept.owner, kept.cached_tokens, kept.account) == (7, 100, None)
    assert kept.conversation_seconds is not None
    assert server.prompt_tokens_per_second == pytest.approx(100)
    assert scheduler.report().account_ids() >= {7, 8}


def test_a_conversation_that_goes_on_keeps_its_age(scheduler: SlotScheduler) -> None:
    def age(account: int) -> float:
        [slot] = [slot for slot in state_of(scheduler).slots if slot.owner == account]
        assert slot.conversation_seconds is not None
        return slot.conversation_seconds

    first = scheduler.request(7, prompt_tokens=100, chain=CHAIN)
    assert granted(first) is not None
    finish(scheduler, first)
    wait_for(lambda: age(7) > 0.3, "a conversation of some age")
    again = scheduler.request(7, prompt_tokens=120, chain=(*CHAIN, PrefixLink("a:120", 120)))
    lease = granted(again)
    assert lease is not None and lease.reuses_cache
    assert age(7) > 0.3
    other = scheduler.request(8, prompt_tokens=120)
    assert granted(other) is not None
    assert age(8) < age(7)


def test_a_slot_whose_request_was_cut(
    scheduler: SlotScheduler, three_slots: SimulatedLlama
) -> None:
    slot_request = scheduler.request(7)
    assert granted(slot_request) is not None
    three_slots.set_faults()
    finish(scheduler, slot_request, settled=False)
    # It is looked at within half a second, so that this may see it idle already.
    wait_for(lambda: state_of(scheduler).running == 0, "the end of the lease")
    server = state_of(scheduler)
    assert server.count(IDLE) + server.count(UNSETTLED) == 3
    wait_for(lambda: state_of(scheduler).count(IDLE) == 3, "the look at its slots")


def test_a_server_that_is_counted_only(make_scheduler: MakeScheduler) -> None:
    scheduler = make_scheduler()
    take_all(scheduler, 7, 2)
    server = state_of(scheduler)
    assert not server.named and server.running == 2
    assert [(slot.number, slot.state, slot.account) for slot in server.slots] == [
        (None, BUSY, 7),
        (None, BUSY, 7),
    ]


def test_who_waits(make_scheduler: MakeScheduler) -> None:
    scheduler = make_scheduler()
    assert scheduler.report().accounts == [] and scheduler.report().waiting == 0
    take_all(scheduler, 7)
    for _ in range(2):
        wait_in_line(scheduler, 7)
    wait_in_line(scheduler, 8, ServiceClass.TRIAL)
    report = scheduler.report()
    assert report.waiting == 3
    found = {
        item.account: (item.service_class, item.waiting, item.running) for item in report.accounts
    }
    assert found == {7: ("paying", 2, 3), 8: ("trial", 1, 0)}
    assert all(0 <= item.longest_seconds < 60 for item in report.accounts)
    longest = {item.account: item.longest_seconds for item in report.accounts}
    assert longest[7] > longest[8]


def test_a_report_is_bounded(
    make_scheduler: MakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ACCOUNTS", 2)
    scheduler = make_scheduler()
    take_all(scheduler, 1)
    for account in (2, 3, 3, 4):
        wait_in_line(scheduler, account)
    report = scheduler.report()
    assert report.waiting == 4 and len(report.accounts) == 2
    assert report.accounts[0].account == 3


def test_a_report_changes_nothing(scheduler: SlotScheduler, redis_url: str) -> None:
    take_all(scheduler, 7)
    before = set(slots_keys(redis_url))
    for _ in range(3):
        scheduler.report()
    assert set(slots_keys(redis_url)) == before


def test_without_redis(make_scheduler: MakeScheduler) -> None:
    with pytest.raises(RedisUnavailable):
        make_scheduler("redis://127.0.0.1:1/0").report()
