"""Slots across processes: never oversubscribed, fairly shared, freed when a process dies."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from promptly.errors import QueueFull, RequestRejected, UpstreamUnavailable
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.fatal_bodies import MAX_DEATHS, FatalBodies
from promptly.gateway.slots.exchange import queue_key
from promptly.gateway.slots.requests import ServiceClass, SlotRequest
from promptly.gateway.slots.scheduler import GENERATION, PACE_SECONDS, SlotScheduler
from promptly.gateway.upstream import EMBEDDINGS_PATH
from promptly.gateway.upstreams import UpstreamPool
from promptly.runtime import request_metrics
from promptly.runtime.redis_client import HotPathRedis
from promptly.secret import Secret
from sandbox.llama import SimulatedLlama
from tests.gateway.conftest import MakeLlama
from tests.gateway.slots.conftest import (
    MakeScheduler,
    granted,
    know_slots,
    running,
    scheduler_on,
    slots_keys,
    take_all,
    wait_in_line,
)
from tests.support.books import wait_for
from tests.support.servers import make_settings

AWAY = "redis://127.0.0.1:1/0"
TRIAL = ServiceClass.TRIAL


def finish(scheduler: SlotScheduler, slot_request: SlotRequest) -> None:
    """End a request that was answered; one that was not costs its account nothing."""
    slot_request.reached = True
    scheduler.release(slot_request)


def test_a_free_slot_is_given_at_once(
    make_scheduler: MakeScheduler, three_slots: SimulatedLlama
) -> None:
    scheduler = make_scheduler()
    slot_request = scheduler.request(1)
    lease = granted(slot_request, 10)
    assert lease is not None
    assert lease.upstream.name == three_slots.url
    assert scheduler.held() == 1
    scheduler.release(slot_request)
    scheduler.release(slot_request)
    assert scheduler.held() == 0


def test_a_busy_process_asks_for_several_requests_at_once(
    make_scheduler: MakeScheduler, redis_url: str
) -> None:
    scheduler = make_scheduler()
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()
        began_at = time.monotonic()
        # One after the other, as fast as they are granted.
        for account in range(20):
            slot_request = scheduler.request(account)
            assert granted(slot_request)
            scheduler.release(slot_request)
        seconds = time.monotonic() - began_at
        exchanges = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert exchanges <= seconds / PACE_SECONDS + 1


def test_two_schedulers_never_hold_more_than_there_are(make_scheduler: MakeScheduler) -> None:
    schedulers = [make_scheduler(), make_scheduler()]
    lock, held, most = threading.Lock(), 0, 0

    def request(number: int) -> None:
        nonlocal held, most
        scheduler = schedulers[number % 2]
        slot_request = scheduler.request(number % 5)
        assert granted(slot_request, 30) is not None
        with lock:
            held += 1
            most = max(most, held)
        threading.Event().wait(0.005)
        with lock:
            held -= 1
        scheduler.release(slot_request)

    with ThreadPoolExecutor(24) as pool:
        for future in [pool.submit(request, number) for number in range(120)]:
            future.result(timeout=60)
    assert most == 3


def test_a_waiting_request_gets_the_next_slot_in_another_process(
    make_scheduler: MakeScheduler,
) -> None:
    first, second = make_scheduler(), make_scheduler()
    slot_requests = take_all(first, account=1)
    waiting = wait_in_line(second, 2)
    assert granted(waiting, 0.2) is None
    first.release(slot_requests[0])
    assert granted(waiting, 10) is not None


def test_first_come_first_served_within_an_account(make_scheduler: MakeScheduler) -> None:
    schedulers = [make_scheduler(), make_scheduler()]
    slot_requests = take_all(schedulers[0], account=1)
    line = [wait_in_line(schedulers[number % 2], 2) for number in range(4)]
    for place in range(3):
        schedulers[0].release(slot_requests[place])
        assert granted(line[place], 10) is not None
        assert running(*line) == [True] * (place + 1) + [False] * (3 - place)


def test_a_newcomer_goes_before_those_who_were_served(make_scheduler: MakeScheduler) -> None:
    scheduler, other = make_scheduler(), make_scheduler()
    first = take_all(scheduler, account=1)
    greedy = [wait_in_line(scheduler, 1) for _ in range(3)]
    modest = wait_in_line(other, 2)
    scheduler.release(first[0])
    assert granted(modest) is not None
    assert running(*greedy) == [False] * 3
    scheduler.release(first[1])
    assert granted(greedy[0]) is not None
    assert running(*greedy) == [True, False, False]


def test_paying_accounts_go_before_trials(make_scheduler: MakeScheduler) -> None:
    scheduler, other = make_scheduler(trial_weight=4), make_scheduler(trial_weight=4)
    first = take_all(scheduler, account=1)
    trials = [wait_in_line(scheduler, 10 + number, TRIAL) for number in range(3)]
    # It has been served more than all of them, and came last.
    paying = [wait_in_line(other, 1) for _ in range(6)]
    scheduler.release(first[0])
    assert granted(paying[0]) is not None
    assert running(*trials) == [False] * 3
    # A trial's token counts as four: it is then the turn of four paying requests.
    done = paying[0]
    for turns in (trials[:1], paying[1:5], trials[1:2], paying[5:]):
        for slot_request in turns:
            finish(scheduler if done in trials else other, done)
            assert granted(slot_request) is not None
            done = slot_request


def test_batch_requests_yield_to_all_others(make_scheduler: MakeScheduler) -> None:
    scheduler = make_scheduler()
    first = take_all(scheduler, account=1)
    batch = wait_in_line(scheduler, 2, ServiceClass.BATCH)
    others = [wait_in_line(scheduler, 3, TRIAL), wait_in_line(scheduler, 1)]
    for holder in first[:2]:
        scheduler.release(holder)
    assert all(granted(slot_request) for slot_request in others)
    assert batch.lease is None
    scheduler.release(first[2])
    assert granted(batch) is not None


def test_batch_requests_do_not_starve(make_scheduler: MakeScheduler, redis_url: str) -> None:
    scheduler = make_scheduler()
    first = take_all(scheduler, account=1)
    batch = [wait_in_line(scheduler, 2, ServiceClass.BATCH) for _ in range(2)]
    other = wait_in_line(scheduler, 1)
    as_if_they_had_waited_for_a_minute = """
        local numbers = cmsgpack.unpack(redis.call('GET', KEYS[1]))
        numbers.batch_at = numbers.batch_at - 60000
        redis.call('SET', KEYS[1], cmsgpack.pack(numbers), 'KEEPTTL')
    """
    with redis.Redis.from_url(redis_url) as client:
        client.eval(as_if_they_had_waited_for_a_minute, 1, f"{queue_key(GENERATION)}:numbers")
    scheduler.release(first[0])
    assert granted(batch[0]) is not None
    scheduler.release(first[1])
    assert granted(other) is not None
    assert batch[1].lease is None


def test_trials_do_not_fill_the_queue_for_paying_accounts(make_scheduler: MakeScheduler) -> None:
    scheduler, other = make_scheduler(max_queued=2), make_scheduler(max_queued=2)
    first = take_all(scheduler, account=1)
    trials = [wait_in_line(scheduler, 10 + number, TRIAL) for number in range(2)]
    with pytest.raises(QueueFull):
        granted(scheduler.request(20, service_class=TRIAL))
    # Each takes the place of the trial that came last, also where that waits in another process.
    paying = wait_in_line(other, 30)
    with pytest.raises(QueueFull):
        granted(trials[1])
    paying_too = wait_in_line(other, 31)
    with pytest.raises(QueueFull):
        granted(trials[0])
    with pytest.raises(QueueFull):
        granted(scheduler.request(32))
    scheduler.release(first[0])
    scheduler.release(first[1])
    assert granted(paying) and granted(paying_too)


def test_a_full_queue_displaces_the_account_that_has_most_in_it(
    make_scheduler: MakeScheduler,
) -> None:
    scheduler = make_scheduler(max_queued=3)
    take_all(scheduler, account=1)
    greedy = [wait_in_line(scheduler, 2) for _ in range(3)]
    modest = wait_in_line(scheduler, 3)
    with pytest.raises(QueueFull):
        granted(greedy[2])
    assert running(*greedy[:2], modest) == [False] * 3
    # Now two of one account and one of the other wait: another one of the former is too many.
    with pytest.raises(QueueFull):
        granted(scheduler.request(2))


def test_without_redis_trials_do_not_fill_the_queue_for_paying_accounts(
    make_scheduler: MakeScheduler,
) -> None:
    scheduler = make_scheduler(AWAY, max_queued=2)
    first = take_all(scheduler, account=1)
    for number in range(2):
        scheduler.request(10 + number, service_class=TRIAL)
    with pytest.raises(QueueFull):
        granted(scheduler.request(20, service_class=TRIAL))
    paying = scheduler.request(30)
    scheduler.release(first[0])
    assert granted(paying) is not None


def test_a_retry_waits_for_other_upstreams_and_blocks_nobody(
    make_llama: MakeLlama, redis_url: str
) -> None:
    first, second = make_llama(slots=1), make_llama(slots=1)
    settings = make_settings(llama_base_url=(first.url, second.url))
    scheduler = scheduler_on(redis_url, UpstreamPool(settings))
    holders = [scheduler.request(1) for number in range(2)]
    assert all(granted(holder, 10) for holder in holders)
    [on_first] = [h for h in holders if h.upstream and h.upstream.name == first.url]
    [on_second] = [h for h in holders if h is not on_first]
    again = scheduler.request(2, avoided=frozenset({first.url}))
    wait_for(lambda: again.queued, "the retry in line")
    behind = wait_in_line(scheduler, 3)
    scheduler.release(on_first)
    lease = granted(behind, 10)
    assert lease is not None and lease.upstream.name == first.url
    assert again.lease is None
    scheduler.release(on_second)
    lease = granted(again, 10)
    assert lease is not None and lease.upstream.name == second.url
    for slot_request in (again, behind):
        scheduler.release(slot_request)


def test_an_exchange_brings_the_refused_bodies(
    make_scheduler: MakeScheduler, redis_url: str
) -> None:
    scheduler = make_scheduler()
    fatal = FatalBodies(HotPathRedis(redis_url), Secret("pepper"))
    for number in range(MAX_DEATHS):
        fatal.add_death(fatal.digest(b"{}"), f"server {number}", time.time())
    assert granted(scheduler.request(1), 10) is not None
    with pytest.raises(RequestRejected):
        scheduler._fatal_bodies.check(fatal.digest(b"{}"))


def test_a_request_that_leaves_the_queue_is_passed_over(make_scheduler: MakeScheduler) -> None:
    scheduler, other = make_scheduler(), make_scheduler()
    slot_requests = take_all(scheduler, account=1)
    gone, next_in_line = wait_in_line(other, 2), wait_in_line(scheduler, 2)
    other.release(gone)
    scheduler.release(slot_requests[0])
    assert granted(next_in_line, 10) is not None
    assert gone.lease is None
    assert other.held() == 0


@pytest.fixture
def two_kinds(
    make_llama: MakeLlama, redis_url: str
) -> tuple[SlotScheduler, SimulatedLlama, SimulatedLlama]:
    """A scheduler, its text server and its embedding server, each with one slot."""
    texts, vectors = make_llama(slots=1), make_llama(slots=1, embeddings=True)
    settings = make_settings(llama_base_url=(texts.url,), llama_embeddings_base_url=(vectors.url,))
    pool = UpstreamPool(settings)
    pool.ready(ChatRequest.path)
    pool.lacks(pool.upstreams[0], EMBEDDINGS_PATH)
    return scheduler_on(redis_url, pool), texts, vectors


def test_waiting_for_one_kind_of_server_does_not_block_the_other(
    two_kinds: tuple[SlotScheduler, SimulatedLlama, SimulatedLlama], redis_url: str
) -> None:
    scheduler, texts, vectors = two_kinds
    chats = [scheduler.request(1, ChatRequest.path) for number in range(3)]
    wait_for(lambda: sum(running(*chats)) == 1, "the slot for text")
    wait_for(lambda: all(chat.queued or chat.upstream for chat in chats), "the others in line")
    batches = [scheduler.request(1, EMBEDDINGS_PATH) for number in range(2)]
    wait_for(lambda: sum(running(*batches)) == 1, "the slot for embeddings")
    [chat] = [slot_request for slot_request in chats if slot_request.upstream]
    [batch] = [slot_request for slot_request in batches if slot_request.upstream]
    assert chat.upstream is not None
    assert batch.upstream is not None
    assert (chat.upstream.name, batch.upstream.name) == (texts.url, vectors.url)
    scheduler.release(batch)
    wait_for(lambda: all(running(*batches)), "the second batch")
    assert sum(running(*chats)) == 1
    for slot_request in (*chats, *batches):
        scheduler.release(slot_request)


def test_a_request_may_queue_again_right_after_its_release(
    make_scheduler: MakeScheduler,
) -> None:
    scheduler, other = make_scheduler(), make_scheduler()
    others = take_all(other, account=2, count=2)
    slot_request = scheduler.request(1)
    assert granted(slot_request, 10) is not None
    waiting = wait_in_line(other, 3)
    for _ in range(20):
        scheduler.release(slot_request)
        slot_request = scheduler.request(1)
        if waiting.lease is None:
            # It is the other request's turn.
            assert granted(waiting, 10) is not None
            other.release(others.pop())
        assert granted(slot_request, 10) is not None
    assert (scheduler.held(), other.held()) == (1, 2)


def test_a_full_queue_is_refused(make_scheduler: MakeScheduler) -> None:
    scheduler = make_scheduler(max_queued=2)
    take_all(scheduler, account=1)
    line = [wait_in_line(scheduler, 2) for number in range(2)]
    displaced = request_metrics.displaced["paying"].total()
    too_many = scheduler.request(2)
    with pytest.raises(QueueFull):
        granted(too_many, 10)
    assert request_metrics.displaced["paying"].total() == displaced + 1
    assert running(*line) == [False, False]
    assert too_many.lease is None


@pytest.mark.usefixtures("short_lives")
def test_slots_of_a_dead_process_are_freed(
    make_scheduler: MakeScheduler, redis_url: str, three_slots: SimulatedLlama
) -> None:
    dead, alive = make_scheduler(), make_scheduler()
    know_slots(alive, redis_url, three_slots.url)
    mine = alive.request(2)
    assert granted(mine, 10) is not None
    take_all(dead, account=1, count=2)
    in_line = wait_in_line(dead, 1)
    dead._exchange = lambda queue: None  # type: ignore[method-assign]
    waiting = [alive.request(3) for number in range(3)]
    wait_for(lambda: sum(running(*waiting)) == 2, "the slots of the dead")
    # The living one's own slot was renewed all the while.
    assert granted(waiting[[*running(*waiting)].index(False)], 1.0) is None
    assert in_line.lease is None
    alive.release(mine)
    wait_for(lambda: all(running(*waiting)), "the last slot")
    del dead._exchange


def test_without_redis_each_process_admits_by_itself(make_scheduler: MakeScheduler) -> None:
    scheduler = make_scheduler(AWAY, max_queued=1)
    slot_requests = take_all(scheduler, account=1)
    waiting = scheduler.request(2)
    assert granted(waiting, 0.2) is None
    with pytest.raises(QueueFull):
        granted(scheduler.request(2), 10)
    scheduler.release(slot_requests[0])
    assert granted(waiting, 10) is not None
    assert scheduler.held() == 3


def test_without_memory_in_redis_each_process_admits_by_itself(
    make_scheduler: MakeScheduler, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = make_scheduler()
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", 1)
        try:
            slot_requests = take_all(scheduler, account=1)
        finally:
            client.config_set("maxmemory", 0)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "Redis refuses a command: this process continues without it"
    ]
    waiting = wait_in_line(scheduler, 2)
    scheduler.release(slot_requests[0])
    assert granted(waiting) is not None


def test_a_missing_upstream_is_reported_at_once(redis_url: str) -> None:
    settings = make_settings(llama_base_url=("http://127.0.0.1:1",))
    scheduler = scheduler_on(redis_url, UpstreamPool(settings))
    with pytest.raises(UpstreamUnavailable):
        scheduler.request(1)


def test_nothing_is_left_behind(make_scheduler: MakeScheduler, redis_url: str) -> None:
    scheduler = make_scheduler()
    slot_requests = take_all(scheduler, account=1)
    waiting = wait_in_line(scheduler, 1)
    for slot_request in (waiting, *slot_requests):
        scheduler.release(slot_request)
    wait_for(
        lambda: (
            not any(
                part in key
                for key in slots_keys(redis_url)
                for part in (":requests", ":lane", ":line", ":of:", ":totals", ":leases", "s:http")
            )
        ),
        "neither a request nor a lease",
    )
    # Figures of accounts and servers are kept for a while.
    assert all(0 < left_ms <= 24 * 3600 * 1000 for left_ms in slots_keys(redis_url).values())
