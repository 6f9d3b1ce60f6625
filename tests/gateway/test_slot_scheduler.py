"""Slots across processes: never more than there are, fairly, and freed when a process dies."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from promptly.errors import QueueFull, UpstreamUnavailable
from promptly.gateway import slot_scheduler
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.slot_scheduler import SlotRequest, SlotScheduler
from promptly.gateway.upstreams import EMBEDDINGS_PATH, UpstreamPool
from promptly.runtime.redis_client import HotPathRedis
from promptly.settings import Settings
from sandbox.llama import SimulatedLlama
from tests.gateway.conftest import MakeLlama
from tests.support.books import wait_for
from tests.support.servers import make_settings

AWAY = "redis://127.0.0.1:1/0"
MakeBroker = Callable[..., SlotScheduler]


@pytest.fixture(scope="module")
def three_slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(tmp_path_factory.mktemp("slots"), slots=3).start()
    yield server
    server.stop()


@pytest.fixture
def make_broker(three_slots: SimulatedLlama, redis_url: str) -> Iterator[MakeBroker]:
    """Brokers as several processes would have them, on one Redis."""
    made: list[SlotScheduler] = []
    settings: Settings = make_settings(llama_base_url=(three_slots.url,))

    def make(url: str = redis_url, max_queued: int = 100) -> SlotScheduler:
        made.append(SlotScheduler(HotPathRedis(url), UpstreamPool(settings), max_queued))
        return made[-1]

    yield make
    for broker in made:
        # Its thread lives on, and must not renew anything under the next test.
        for slot_request in [*broker._held.values(), *broker._waiting.values()]:
            broker.give_back(slot_request)
    wait_for(lambda: all(not broker._released for broker in made), "the end of all brokers")


def running(*tickets: SlotRequest) -> list[bool]:
    return [slot_request.upstream is not None for slot_request in tickets]


def wait_in_line(broker: SlotScheduler, account: int, name: str) -> SlotRequest:
    """A slot_request that is known to Redis, so that those after it come later."""
    slot_request = broker.ask(account, name)
    wait_for(lambda: slot_request.queued, f"{name} in the queue")
    return slot_request


def take_all(broker: SlotScheduler, account: int, count: int = 3) -> list[SlotRequest]:
    tickets = [broker.ask(account, f"first{number}") for number in range(count)]
    assert all(broker.answer(slot_request, 10) for slot_request in tickets)
    return tickets


def test_a_free_slot_is_given_at_once(make_broker: MakeBroker, three_slots: SimulatedLlama) -> None:
    broker = make_broker()
    slot_request = broker.ask(1, "a")
    upstream = broker.answer(slot_request, 10)
    assert upstream is not None
    assert upstream.name == three_slots.url
    assert broker.held() == 1
    broker.give_back(slot_request)
    broker.give_back(slot_request)
    assert broker.held() == 0


def test_two_brokers_never_hold_more_than_there_are(make_broker: MakeBroker) -> None:
    brokers = [make_broker(), make_broker()]
    lock, held, most = threading.Lock(), 0, 0

    def request(number: int) -> None:
        nonlocal held, most
        broker = brokers[number % 2]
        slot_request = broker.ask(number % 5, str(number))
        assert broker.answer(slot_request, 30) is not None
        with lock:
            held += 1
            most = max(most, held)
        threading.Event().wait(0.005)
        with lock:
            held -= 1
        broker.give_back(slot_request)

    with ThreadPoolExecutor(24) as pool:
        for future in [pool.submit(request, number) for number in range(120)]:
            future.result(timeout=60)
    assert most == 3


def test_who_waits_gets_the_next_slot_in_another_process(make_broker: MakeBroker) -> None:
    first, second = make_broker(), make_broker()
    tickets = take_all(first, account=1)
    waiting = wait_in_line(second, 2, "a")
    assert second.answer(waiting, 0.2) is None
    first.give_back(tickets[0])
    assert second.answer(waiting, 10) is not None


def test_first_come_first_served_within_an_account(make_broker: MakeBroker) -> None:
    brokers = [make_broker(), make_broker()]
    tickets = take_all(brokers[0], account=1)
    line = [wait_in_line(brokers[number % 2], 2, str(number)) for number in range(4)]
    for place in range(3):
        brokers[0].give_back(tickets[place])
        assert brokers[place % 2].answer(line[place], 10) is not None
        assert running(*line) == [True] * (place + 1) + [False] * (3 - place)


def test_the_account_that_runs_least_goes_first(make_broker: MakeBroker) -> None:
    broker, other = make_broker(), make_broker()
    tickets = take_all(broker, account=1)
    greedy = [wait_in_line(broker, 1, f"greedy{number}") for number in range(3)]
    modest = wait_in_line(other, 2, "modest")
    broker.give_back(tickets[0])
    assert other.answer(modest, 10) is not None
    assert running(*greedy) == [False] * 3
    broker.give_back(tickets[1])
    assert broker.answer(greedy[0], 10) is not None
    assert running(*greedy) == [True, False, False]


def test_who_leaves_the_queue_is_passed_over(make_broker: MakeBroker) -> None:
    broker, other = make_broker(), make_broker()
    tickets = take_all(broker, account=1)
    gone, next_in_line = wait_in_line(other, 2, "gone"), wait_in_line(broker, 2, "next")
    other.give_back(gone)
    broker.give_back(tickets[0])
    assert broker.answer(next_in_line, 10) is not None
    assert gone.upstream is None
    assert other.held() == 0


@pytest.fixture
def two_kinds(
    make_llama: MakeLlama, redis_url: str
) -> tuple[SlotScheduler, SimulatedLlama, SimulatedLlama]:
    """A broker, its server for text with one slot, and its server for embeddings with one."""
    texts, vectors = make_llama(slots=1), make_llama(slots=1, embeddings=True)
    settings = make_settings(llama_base_url=(texts.url,), llama_embeddings_base_url=(vectors.url,))
    pool = UpstreamPool(settings)
    pool.ready(ChatRequest.path)
    pool.lacks(pool.upstreams[0], EMBEDDINGS_PATH)
    return SlotScheduler(HotPathRedis(redis_url), pool, 100), texts, vectors


def test_who_waits_for_one_kind_of_server_keeps_nobody_from_the_other(
    two_kinds: tuple[SlotScheduler, SimulatedLlama, SimulatedLlama], redis_url: str
) -> None:
    broker, texts, vectors = two_kinds
    chats = [broker.ask(1, f"chat{number}", ChatRequest.path) for number in range(3)]
    wait_for(lambda: sum(running(*chats)) == 1, "the slot for text")
    wait_for(lambda: all(chat.queued or chat.upstream for chat in chats), "the others in line")
    batches = [broker.ask(1, f"batch{number}", EMBEDDINGS_PATH) for number in range(2)]
    wait_for(lambda: sum(running(*batches)) == 1, "the slot for embeddings")
    [chat] = [slot_request for slot_request in chats if slot_request.upstream]
    [batch] = [slot_request for slot_request in batches if slot_request.upstream]
    assert chat.upstream is not None
    assert batch.upstream is not None
    assert (chat.upstream.name, batch.upstream.name) == (texts.url, vectors.url)
    broker.give_back(batch)
    wait_for(lambda: all(running(*batches)), "the second batch")
    assert sum(running(*chats)) == 1
    # Both lines are left as they were found.
    for slot_request in (*chats, *batches):
        broker.give_back(slot_request)
    with redis.Redis.from_url(redis_url) as client:
        wait_for(lambda: not client.keys("promptly:*"), "an empty Redis")


def test_a_request_may_ask_again_as_soon_as_it_has_given_back(make_broker: MakeBroker) -> None:
    broker, other = make_broker(), make_broker()
    others = take_all(other, account=2, count=2)
    slot_request = broker.ask(1, "again")
    assert broker.answer(slot_request, 10) is not None
    waiting = wait_in_line(other, 3, "waiting")
    for _ in range(20):
        broker.give_back(slot_request)
        slot_request = broker.ask(1, "again")
        if waiting.upstream is None:
            # It is the other's turn.
            assert other.answer(waiting, 10) is not None
            other.give_back(others.pop())
        assert broker.answer(slot_request, 10) is not None
    assert (broker.held(), other.held()) == (1, 2)


def test_a_full_queue_is_refused(make_broker: MakeBroker) -> None:
    broker = make_broker(max_queued=2)
    take_all(broker, account=1)
    line = [wait_in_line(broker, 2, str(number)) for number in range(2)]
    too_many = broker.ask(2, "too many")
    with pytest.raises(QueueFull):
        broker.answer(too_many, 10)
    assert running(*line) == [False, False]
    assert too_many.upstream is None


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not renewed for half a second expires."""
    monkeypatch.setattr(slot_scheduler, "TTL_MS", 500)
    monkeypatch.setattr(slot_scheduler, "RENEW_SECONDS", 0.1)


@pytest.mark.usefixtures("short_lives")
def test_slots_of_a_dead_process_are_freed(make_broker: MakeBroker) -> None:
    dead, alive = make_broker(), make_broker()
    mine = alive.ask(2, "mine")
    assert alive.answer(mine, 10) is not None
    take_all(dead, account=1, count=2)
    in_line = wait_in_line(dead, 1, "also dead")
    dead._exchange = lambda: None  # type: ignore[method-assign]
    waiting = [alive.ask(3, str(number)) for number in range(3)]
    wait_for(lambda: sum(running(*waiting)) == 2, "the slots of the dead")
    # The living one's own slot was renewed all the while.
    assert alive.answer(waiting[[*running(*waiting)].index(False)], 1.0) is None
    assert in_line.upstream is None
    alive.give_back(mine)
    wait_for(lambda: all(running(*waiting)), "the last slot")
    del dead._exchange


def test_without_redis_each_process_admits_by_itself(make_broker: MakeBroker) -> None:
    broker = make_broker(AWAY, max_queued=1)
    tickets = take_all(broker, account=1)
    waiting = broker.ask(2, "waiting")
    assert broker.answer(waiting, 0.2) is None
    with pytest.raises(QueueFull):
        broker.answer(broker.ask(2, "too many"), 10)
    broker.give_back(tickets[0])
    assert broker.answer(waiting, 10) is not None
    assert broker.held() == 3


def test_no_upstream_is_said_at_once(redis_url: str) -> None:
    settings = make_settings(llama_base_url=("http://127.0.0.1:1",))
    broker = SlotScheduler(HotPathRedis(redis_url), UpstreamPool(settings), 5)
    with pytest.raises(UpstreamUnavailable):
        broker.ask(1, "a")


def test_nothing_is_left_behind(make_broker: MakeBroker, redis_url: str) -> None:
    broker = make_broker()
    tickets = take_all(broker, account=1)
    waiting = wait_in_line(broker, 1, "waiting")
    for slot_request in (waiting, *tickets):
        broker.give_back(slot_request)
    with redis.Redis.from_url(redis_url) as client:
        wait_for(lambda: not client.keys("promptly:*"), "an empty Redis")
