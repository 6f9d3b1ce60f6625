"""Slots across processes: never oversubscribed, fairly shared, freed when a process dies."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from promptly.errors import QueueFull, RequestRejected, UpstreamUnavailable
from promptly.gateway import slot_scheduler
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.fatal_bodies import MAX_DEATHS, FatalBodies
from promptly.gateway.slot_scheduler import SlotRequest, SlotScheduler
from promptly.gateway.upstreams import EMBEDDINGS_PATH, Upstream, UpstreamPool
from promptly.runtime.redis_client import HotPathRedis
from promptly.secret import Secret
from promptly.settings import Settings
from sandbox.llama import SimulatedLlama
from tests.gateway.conftest import MakeLlama
from tests.support.books import wait_for
from tests.support.servers import make_settings

AWAY = "redis://127.0.0.1:1/0"
MakeScheduler = Callable[..., SlotScheduler]


def scheduler_on(redis_url: str, pool: UpstreamPool, max_queued: int) -> SlotScheduler:
    """Return the scheduler of one more process on this Redis."""
    hot = HotPathRedis(redis_url)
    return SlotScheduler(hot, pool, FatalBodies(hot, Secret("pepper")), max_queued)


@pytest.fixture(scope="module")
def three_slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(tmp_path_factory.mktemp("slots"), slots=3).start()
    yield server
    server.stop()


@pytest.fixture
def make_scheduler(three_slots: SimulatedLlama, redis_url: str) -> Iterator[MakeScheduler]:
    """Factory of schedulers, like those of several processes, on one Redis."""
    made: list[SlotScheduler] = []
    settings: Settings = make_settings(llama_base_url=(three_slots.url,))

    def make(url: str = redis_url, max_queued: int = 100) -> SlotScheduler:
        made.append(scheduler_on(url, UpstreamPool(settings), max_queued))
        return made[-1]

    yield make
    for scheduler in made:
        # The scheduler's thread lives on and must not renew anything during the next test.
        for slot_request in [*scheduler._held.values(), *scheduler._waiting.values()]:
            scheduler.release(slot_request)
    wait_for(
        lambda: all(not scheduler._released for scheduler in made), "the end of all schedulers"
    )


def running(*slot_requests: SlotRequest) -> list[bool]:
    return [slot_request.upstream is not None for slot_request in slot_requests]


def wait_in_line(
    scheduler: SlotScheduler, account: int, name: str, *, trial: bool = False
) -> SlotRequest:
    """Request a slot and wait until it is queued in Redis, so that later requests follow it."""
    slot_request = scheduler.request(account, name, trial=trial)
    wait_for(lambda: slot_request.queued, f"{name} in the queue")
    return slot_request


def granted(slot_request: SlotRequest, timeout_seconds: float) -> Upstream | None:
    slot_request.changed.wait(timeout_seconds)
    return slot_request.granted()


def take_all(scheduler: SlotScheduler, account: int, count: int = 3) -> list[SlotRequest]:
    slot_requests = [scheduler.request(account, f"first{number}") for number in range(count)]
    assert all(granted(slot_request, 10) for slot_request in slot_requests)
    return slot_requests


def test_a_free_slot_is_given_at_once(
    make_scheduler: MakeScheduler, three_slots: SimulatedLlama
) -> None:
    scheduler = make_scheduler()
    slot_request = scheduler.request(1, "a")
    upstream = granted(slot_request, 10)
    assert upstream is not None
    assert upstream.name == three_slots.url
    assert scheduler.held() == 1
    scheduler.release(slot_request)
    scheduler.release(slot_request)
    assert scheduler.held() == 0


def test_two_schedulers_never_hold_more_than_there_are(make_scheduler: MakeScheduler) -> None:
    schedulers = [make_scheduler(), make_scheduler()]
    lock, held, most = threading.Lock(), 0, 0

    def request(number: int) -> None:
        nonlocal held, most
        scheduler = schedulers[number % 2]
        slot_request = scheduler.request(number % 5, str(number))
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
    waiting = wait_in_line(second, 2, "a")
    assert granted(waiting, 0.2) is None
    first.release(slot_requests[0])
    assert granted(waiting, 10) is not None


def test_first_come_first_served_within_an_account(make_scheduler: MakeScheduler) -> None:
    schedulers = [make_scheduler(), make_scheduler()]
    slot_requests = take_all(schedulers[0], account=1)
    line = [wait_in_line(schedulers[number % 2], 2, str(number)) for number in range(4)]
    for place in range(3):
        schedulers[0].release(slot_requests[place])
        assert granted(line[place], 10) is not None
        assert running(*line) == [True] * (place + 1) + [False] * (3 - place)


def test_the_account_that_runs_least_goes_first(make_scheduler: MakeScheduler) -> None:
    scheduler, other = make_scheduler(), make_scheduler()
    slot_requests = take_all(scheduler, account=1)
    greedy = [wait_in_line(scheduler, 1, f"greedy{number}") for number in range(3)]
    modest = wait_in_line(other, 2, "modest")
    scheduler.release(slot_requests[0])
    assert granted(modest, 10) is not None
    assert running(*greedy) == [False] * 3
    scheduler.release(slot_requests[1])
    assert granted(greedy[0], 10) is not None
    assert running(*greedy) == [True, False, False]


def test_paying_accounts_go_before_trials(make_scheduler: MakeScheduler) -> None:
    scheduler, other = make_scheduler(), make_scheduler()
    running_first = take_all(scheduler, account=1)
    trials = [wait_in_line(scheduler, 10 + number, "t", trial=True) for number in range(3)]
    # It runs more than all of them, and came last.
    paying = wait_in_line(other, 1, "paying")
    scheduler.release(running_first[0])
    assert granted(paying, 10) is not None
    assert running(*trials) == [False] * 3
    scheduler.release(running_first[1])
    assert granted(trials[0], 10) is not None
    assert running(*trials) == [True, False, False]


@pytest.mark.parametrize("away", [False, True])
def test_trials_do_not_fill_the_queue_for_paying_accounts(
    make_scheduler: MakeScheduler, redis_url: str, away: bool
) -> None:
    scheduler = make_scheduler(AWAY if away else redis_url, max_queued=2)
    running_first = take_all(scheduler, account=1)
    trials = [scheduler.request(10 + number, "t", trial=True) for number in range(2)]
    wait_for(lambda: all(trial.queued or away for trial in trials), "both in line")
    with pytest.raises(QueueFull):
        granted(scheduler.request(20, "t", trial=True), 10)
    paying = [scheduler.request(30, f"p{number}") for number in range(2)]
    scheduler.release(running_first[0])
    wait_for(lambda: sum(running(*paying)) == 1, "a slot")
    # Two more of its own kind fill it.
    more = scheduler.request(31, "p")
    wait_for(lambda: more.queued or away, "it in line")
    with pytest.raises(QueueFull):
        granted(scheduler.request(32, "p"), 10)


def test_a_request_of_the_release_before_leaves_no_slot_free(
    make_scheduler: MakeScheduler, redis_url: str
) -> None:
    """Its order differs: the other process may leave the same slot to this one."""
    scheduler = make_scheduler()
    running_first = take_all(scheduler, account=1)
    trial = wait_in_line(scheduler, 2, "t", trial=True)
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("promptly:waiting", {"3|older": 1})
        client.zadd("promptly:waiting:seen", {"3|older": 9e15})
        scheduler.release(running_first[0])
        assert granted(trial, 10) is not None
        client.delete("promptly:waiting", "promptly:waiting:seen")


def test_a_retry_waits_for_other_upstreams_and_blocks_nobody(
    make_llama: MakeLlama, redis_url: str
) -> None:
    first, second = make_llama(slots=1), make_llama(slots=1)
    settings = make_settings(llama_base_url=(first.url, second.url))
    scheduler = scheduler_on(redis_url, UpstreamPool(settings), 100)
    holders = [scheduler.request(1, f"holder{number}") for number in range(2)]
    assert all(granted(holder, 10) for holder in holders)
    [on_first] = [h for h in holders if h.upstream is not None and h.upstream.name == first.url]
    [on_second] = [h for h in holders if h is not on_first]
    again = scheduler.request(2, "again", avoided=frozenset({first.url}))
    wait_for(lambda: again.queued, "the retry in line")
    behind = wait_in_line(scheduler, 3, "behind")
    scheduler.release(on_first)
    upstream = granted(behind, 10)
    assert upstream is not None and upstream.name == first.url
    assert again.upstream is None
    scheduler.release(on_second)
    upstream = granted(again, 10)
    assert upstream is not None and upstream.name == second.url
    for slot_request in (again, behind):
        scheduler.release(slot_request)


def test_an_exchange_brings_the_refused_bodies(
    make_scheduler: MakeScheduler, redis_url: str
) -> None:
    scheduler = make_scheduler()
    fatal = FatalBodies(HotPathRedis(redis_url), Secret("pepper"))
    for number in range(MAX_DEATHS):
        fatal.add_death(fatal.digest(b"{}"), f"server {number}", time.time())
    assert granted(scheduler.request(1, "a"), 10) is not None
    with pytest.raises(RequestRejected):
        scheduler._fatal_bodies.check(fatal.digest(b"{}"))


def test_a_request_that_leaves_the_queue_is_passed_over(make_scheduler: MakeScheduler) -> None:
    scheduler, other = make_scheduler(), make_scheduler()
    slot_requests = take_all(scheduler, account=1)
    gone, next_in_line = wait_in_line(other, 2, "gone"), wait_in_line(scheduler, 2, "next")
    other.release(gone)
    scheduler.release(slot_requests[0])
    assert granted(next_in_line, 10) is not None
    assert gone.upstream is None
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
    return scheduler_on(redis_url, pool, 100), texts, vectors


def test_waiting_for_one_kind_of_server_does_not_block_the_other(
    two_kinds: tuple[SlotScheduler, SimulatedLlama, SimulatedLlama], redis_url: str
) -> None:
    scheduler, texts, vectors = two_kinds
    chats = [scheduler.request(1, f"chat{number}", ChatRequest.path) for number in range(3)]
    wait_for(lambda: sum(running(*chats)) == 1, "the slot for text")
    wait_for(lambda: all(chat.queued or chat.upstream for chat in chats), "the others in line")
    batches = [scheduler.request(1, f"batch{number}", EMBEDDINGS_PATH) for number in range(2)]
    wait_for(lambda: sum(running(*batches)) == 1, "the slot for embeddings")
    [chat] = [slot_request for slot_request in chats if slot_request.upstream]
    [batch] = [slot_request for slot_request in batches if slot_request.upstream]
    assert chat.upstream is not None
    assert batch.upstream is not None
    assert (chat.upstream.name, batch.upstream.name) == (texts.url, vectors.url)
    scheduler.release(batch)
    wait_for(lambda: all(running(*batches)), "the second batch")
    assert sum(running(*chats)) == 1
    # Both queues end up empty again.
    for slot_request in (*chats, *batches):
        scheduler.release(slot_request)
    with redis.Redis.from_url(redis_url) as client:
        wait_for(lambda: not client.keys("promptly:*"), "an empty Redis")


def test_a_request_may_queue_again_right_after_its_release(
    make_scheduler: MakeScheduler,
) -> None:
    scheduler, other = make_scheduler(), make_scheduler()
    others = take_all(other, account=2, count=2)
    slot_request = scheduler.request(1, "again")
    assert granted(slot_request, 10) is not None
    waiting = wait_in_line(other, 3, "waiting")
    for _ in range(20):
        scheduler.release(slot_request)
        slot_request = scheduler.request(1, "again")
        if waiting.upstream is None:
            # It is the other request's turn.
            assert granted(waiting, 10) is not None
            other.release(others.pop())
        assert granted(slot_request, 10) is not None
    assert (scheduler.held(), other.held()) == (1, 2)


def test_a_full_queue_is_refused(make_scheduler: MakeScheduler) -> None:
    scheduler = make_scheduler(max_queued=2)
    take_all(scheduler, account=1)
    line = [wait_in_line(scheduler, 2, str(number)) for number in range(2)]
    too_many = scheduler.request(2, "too many")
    with pytest.raises(QueueFull):
        granted(too_many, 10)
    assert running(*line) == [False, False]
    assert too_many.upstream is None


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let entries expire that are not renewed for half a second."""
    monkeypatch.setattr(slot_scheduler, "TTL_MS", 500)
    monkeypatch.setattr(slot_scheduler, "RENEW_SECONDS", 0.1)


@pytest.mark.usefixtures("short_lives")
def test_slots_of_a_dead_process_are_freed(make_scheduler: MakeScheduler) -> None:
    dead, alive = make_scheduler(), make_scheduler()
    mine = alive.request(2, "mine")
    assert granted(mine, 10) is not None
    take_all(dead, account=1, count=2)
    in_line = wait_in_line(dead, 1, "also dead")
    dead._exchange = lambda: None  # type: ignore[method-assign]
    waiting = [alive.request(3, str(number)) for number in range(3)]
    wait_for(lambda: sum(running(*waiting)) == 2, "the slots of the dead")
    # The living one's own slot was renewed all the while.
    assert granted(waiting[[*running(*waiting)].index(False)], 1.0) is None
    assert in_line.upstream is None
    alive.release(mine)
    wait_for(lambda: all(running(*waiting)), "the last slot")
    del dead._exchange


def test_without_redis_each_process_admits_by_itself(make_scheduler: MakeScheduler) -> None:
    scheduler = make_scheduler(AWAY, max_queued=1)
    slot_requests = take_all(scheduler, account=1)
    waiting = scheduler.request(2, "waiting")
    assert granted(waiting, 0.2) is None
    with pytest.raises(QueueFull):
        granted(scheduler.request(2, "too many"), 10)
    scheduler.release(slot_requests[0])
    assert granted(waiting, 10) is not None
    assert scheduler.held() == 3


def test_a_missing_upstream_is_reported_at_once(redis_url: str) -> None:
    settings = make_settings(llama_base_url=("http://127.0.0.1:1",))
    scheduler = scheduler_on(redis_url, UpstreamPool(settings), 5)
    with pytest.raises(UpstreamUnavailable):
        scheduler.request(1, "a")


def test_nothing_is_left_behind(make_scheduler: MakeScheduler, redis_url: str) -> None:
    scheduler = make_scheduler()
    slot_requests = take_all(scheduler, account=1)
    waiting = wait_in_line(scheduler, 1, "waiting")
    for slot_request in (waiting, *slot_requests):
        scheduler.release(slot_request)
    with redis.Redis.from_url(redis_url) as client:
        wait_for(lambda: not client.keys("promptly:*"), "an empty Redis")
