"""Slots are named only while they are known to be idle, and caches are their account's own."""

import json
from typing import Any

import pytest
import redis

from promptly.clients.llama import LlamaStream
from promptly.gateway.counts import Counts
from promptly.gateway.slots.exchange import queue_key
from promptly.gateway.slots.requests import ANY_SLOT, Lease, SlotRequest
from promptly.gateway.slots.scheduler import SlotScheduler
from promptly.gateway.upstream import SLOTS_PATH
from sandbox.llama import SimulatedLlama
from tests.gateway.slots.conftest import (
    MakeScheduler,
    granted,
    know_slots,
    take_all,
    wait_in_line,
)
from tests.support.books import wait_for
from tests.support.slots import name_slots


def fields_of(lease: Lease | None) -> tuple[int, bool]:
    assert lease is not None
    fields = json.loads(b'{"":0%b}' % lease.fields())
    return fields["id_slot"], fields["cache_prompt"]


def lease(scheduler: SlotScheduler, account: int) -> SlotRequest:
    slot_request = scheduler.request(account)
    assert granted(slot_request)
    return slot_request


def finish(scheduler: SlotScheduler, slot_request: SlotRequest, *, read: bool = True) -> None:
    """End a request that upstream has answered, or refused before it had `read` the prompt."""
    slot_request.reached = True
    counts = slot_request.counts = Counts()
    if read:
        counts.prompt_size = counts.prompt_tokens = 100
        counts.first_token_at = 1.0
    scheduler.release(slot_request)


def slots_of(*slot_requests: SlotRequest) -> list[int]:
    return sorted(item.lease.slot for item in slot_requests if item.lease is not None)


@pytest.fixture
def scheduler(
    make_scheduler: MakeScheduler, redis_url: str, three_slots: SimulatedLlama
) -> SlotScheduler:
    scheduler = make_scheduler()
    know_slots(scheduler, redis_url, three_slots.url)
    return scheduler


def test_each_lease_names_a_slot_of_its_own(
    scheduler: SlotScheduler, make_scheduler: MakeScheduler
) -> None:
    other = make_scheduler()
    held = [lease(scheduler, 1), lease(other, 2), lease(scheduler, 3)]
    assert slots_of(*held) == [0, 1, 2]
    waiting = wait_in_line(other, 4)
    scheduler.release(held[2])
    assert granted(waiting)
    assert slots_of(waiting) == slots_of(held[2])


def test_slots_are_not_named_before_all_processes_had_time_to_report_theirs(
    make_scheduler: MakeScheduler,
) -> None:
    scheduler = make_scheduler()
    held = take_all(scheduler, account=1)
    assert [fields_of(item.lease) for item in held] == [(ANY_SLOT, False)] * 3


@pytest.mark.usefixtures("short_lives")
def test_slots_are_named_again_once_redis_has_lost_its_data(
    scheduler: SlotScheduler, make_scheduler: MakeScheduler, redis_url: str
) -> None:
    held = lease(scheduler, 1)
    [slot] = slots_of(held)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    other = make_scheduler()
    unnamed = lease(other, 2)
    assert fields_of(unnamed.lease) == (ANY_SLOT, False)
    other.release(unnamed)

    def is_named() -> bool:
        more = [lease(other, 3), lease(other, 3)]
        slots = slots_of(*more)
        for item in more:
            other.release(item)
        return slots == sorted({0, 1, 2} - {slot})

    wait_for(is_named, "leases of the other two slots")


def test_a_restart_of_redis_is_noticed_though_its_data_survives(
    scheduler: SlotScheduler, redis_url: str
) -> None:
    first = lease(scheduler, 1)
    assert slots_of(first) != [ANY_SLOT]
    scheduler.release(first)
    with redis.Redis.from_url(redis_url) as client:
        client.script_flush()
    assert fields_of(lease(scheduler, 1).lease) == (ANY_SLOT, False)


def test_requests_of_the_release_before_take_slots_that_are_not_known(
    scheduler: SlotScheduler, redis_url: str, three_slots: SimulatedLlama
) -> None:
    key = f"promptly:slots:{three_slots.url}"
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.zadd(key, {"7|older": 9e15, "8|older|trial": 9e15})
        held = lease(scheduler, 1)
        assert fields_of(held.lease) == (ANY_SLOT, False)
        waiting = wait_in_line(scheduler, 2)
        # It finds ours among its own, each with its account in front.
        assert sorted(member.partition("|")[0] for member in client.zrange(key, 0, -1)) == [
            *("1", "7", "8")
        ]
        client.zrem(key, "7|older")
        assert granted(waiting)
        client.zrem(key, "8|older|trial")


def test_a_cache_is_reused_by_its_account_only(scheduler: SlotScheduler) -> None:
    for account, reused in ((1, False), (1, True), (2, False), (1, False), (1, True)):
        held = [lease(scheduler, 9), lease(scheduler, 9)]
        slot_request = lease(scheduler, account)
        assert slots_of(slot_request) == [2]
        assert fields_of(slot_request.lease) == (2, reused)
        assert slot_request.lease is not None and slot_request.lease.owns_cache is reused
        finish(scheduler, slot_request)
        for item in held:
            finish(scheduler, item)


def test_a_shared_cache_is_reused_by_all(
    make_scheduler: MakeScheduler, redis_url: str, three_slots: SimulatedLlama
) -> None:
    scheduler = make_scheduler(shared=True)
    know_slots(scheduler, redis_url, three_slots.url)
    for account in (1, 2):
        for slot_request in take_all(scheduler, account):
            assert fields_of(slot_request.lease)[1] == (account == 2)
            # It was another's: reused, but not the account's own.
            assert slot_request.lease is not None and not slot_request.lease.owns_cache
            finish(scheduler, slot_request)
    for slot_request in take_all(scheduler, 2):
        assert slot_request.lease is not None and slot_request.lease.owns_cache


def test_a_slot_keeps_its_contents_if_a_request_is_refused_before_it_is_read(
    scheduler: SlotScheduler,
) -> None:
    for slot_request in take_all(scheduler, account=1):
        finish(scheduler, slot_request)
    for slot_request in take_all(scheduler, account=2):
        assert fields_of(slot_request.lease)[1] is False
        finish(scheduler, slot_request, read=False)
    # It may hold the prompt of account 1 still.
    for slot_request in take_all(scheduler, account=2):
        assert fields_of(slot_request.lease)[1] is False
        finish(scheduler, slot_request)
    assert [fields_of(item.lease)[1] for item in take_all(scheduler, account=2)] == [True] * 3


def all_slots(scheduler: SlotScheduler) -> list[dict[str, Any]]:
    upstream = scheduler._pool.upstreams[0]
    status, slots = upstream.client.call("GET", SLOTS_PATH, timeout_seconds=3)
    assert status == 200
    return list(slots)


def busy(slot_request: SlotRequest) -> LlamaStream:
    """Let the server work on a request; returns when it does."""
    assert slot_request.lease is not None
    slot_request.reached = True
    message = {"role": "user", "content": "[[sim tokens=9999 delay_ms=20]]"}
    body = json.dumps({"messages": [message], "stream": True}).encode()
    body = body[:-1] + slot_request.lease.fields() + b"}"
    stream = slot_request.lease.upstream.client.stream("/v1/chat/completions", body)
    stream.wait_at_most(10)
    while not stream.read():
        pass
    return stream


def test_a_slot_that_was_cut_is_given_on_once_it_is_idle(scheduler: SlotScheduler) -> None:
    held = take_all(scheduler, account=1)
    stream = busy(held[0])
    scheduler.release(held[0], settled=False)
    waiting = wait_in_line(scheduler, 2)
    assert granted(waiting, 0.5) is None
    stream.close()
    assert granted(waiting)
    assert slots_of(waiting) == slots_of(held[0])


@pytest.mark.usefixtures("short_lives")
def test_another_process_looks_if_the_one_that_cut_is_dead(
    scheduler: SlotScheduler, make_scheduler: MakeScheduler
) -> None:
    held = take_all(scheduler, account=1)
    scheduler._looks.start = lambda *look: None  # type: ignore[method-assign]
    scheduler.release(held[0], settled=False)
    waiting = wait_in_line(make_scheduler(), 2)
    assert granted(waiting)
    assert slots_of(waiting) == slots_of(held[0])


def test_a_look_says_nothing_about_requests_that_were_cut_after_it(
    scheduler: SlotScheduler, three_slots: SimulatedLlama
) -> None:
    held = take_all(scheduler, account=1)
    [slot, *_] = slots_of(held[0])
    asked: list[int] = []
    scheduler._looks.start = lambda upstream, asked_at: asked.append(asked_at)  # type: ignore[method-assign]
    scheduler.release(held[0], settled=False)
    wait_for(lambda: bool(asked), "a look that is due")
    waiting = wait_in_line(scheduler, 2)
    scheduler._report(three_slots.url, [slot], [], asked[0] - 1)
    assert granted(waiting, 0.5) is None
    scheduler._report(three_slots.url, [slot], [], asked[0])
    assert granted(waiting)
    assert slots_of(waiting) == [slot]


def test_slots_are_named_though_a_process_died(
    scheduler: SlotScheduler, make_scheduler: MakeScheduler, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.script_flush()
    dead = make_scheduler()
    assert fields_of(lease(dead, 1).lease) == (ANY_SLOT, False)
    dead._exchange = lambda queue: None  # type: ignore[method-assign]
    name_slots(redis_url, dead._pool.upstreams[0].name)
    # Its lease lives on for some seconds.
    assert slots_of(*take_all(scheduler, 2)) == [0, 1, 2]
    del dead._exchange


def test_the_slot_of_a_lease_that_redis_did_not_know_is_found(
    scheduler: SlotScheduler, make_scheduler: MakeScheduler
) -> None:
    first = lease(scheduler, 1)
    running = busy(first)
    other = make_scheduler()
    other._exchange = lambda queue: None  # type: ignore[method-assign]
    unnamed = other.request(2)
    queue = other._queue("", "")
    other._admit_alone(queue, other._servers("", ""))
    assert fields_of(granted(unnamed)) == (ANY_SLOT, False)
    stream = busy(unnamed)
    del other._exchange
    wait_for(lambda: unnamed.lease is not None and unnamed.lease.in_redis, "a known lease")
    named = lease(scheduler, 3)
    used = {slot["id"] for slot in all_slots(scheduler) if slot["is_processing"]}
    assert slots_of(named) == sorted({0, 1, 2} - used)
    waiting = wait_in_line(scheduler, 4)
    assert granted(waiting, 0.5) is None
    stream.close()
    other.release(unnamed)
    assert granted(waiting)
    assert set(slots_of(waiting)) == used - set(slots_of(first))
    running.close()


def test_a_server_that_does_not_show_its_slots_is_counted(scheduler: SlotScheduler) -> None:
    upstream = scheduler._pool.upstreams[0]
    scheduler._pool.lacks(upstream, SLOTS_PATH)
    held = take_all(scheduler, account=1)
    assert [fields_of(item.lease) for item in held] == [(ANY_SLOT, False)] * 3
    waiting = wait_in_line(scheduler, 2)
    scheduler.release(held[0])
    assert granted(waiting)


def test_a_lease_that_may_have_expired_names_no_slot(scheduler: SlotScheduler) -> None:
    held = lease(scheduler, 1)
    assert held.lease is not None
    assert fields_of(held.lease)[0] != ANY_SLOT
    held.lease.granted_at -= 60
    assert fields_of(held.lease) == (ANY_SLOT, False)


def test_a_process_whose_requests_are_forgotten_brings_them_again(
    scheduler: SlotScheduler, redis_url: str
) -> None:
    held = take_all(scheduler, account=1)
    line = [wait_in_line(scheduler, 2) for _ in range(3)]
    with redis.Redis.from_url(redis_url) as client:
        client.delete(*client.keys(f"{queue_key('generation')}:*"))
    for place in range(3):
        scheduler.release(held[place])
        assert granted(line[place])
