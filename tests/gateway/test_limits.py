"""Sliding windows in Redis and in the process: same answers, exact even in a race."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from promptly.gateway import limits
from promptly.gateway.limits import LimitExceeded, LocalWindows, RequestLimits, duration
from promptly.runtime import recently_used
from promptly.runtime.redis_client import HotPathRedis
from promptly.services.accounts.account_limits import AccountRate

AWAY = "redis://127.0.0.1:1/0"
KEY = b"k" * 32


@pytest.fixture(params=["redis", "process"])
def url(request: pytest.FixtureRequest, redis_url: str) -> str:
    return redis_url if request.param == "redis" else AWAY


@pytest.fixture
def short_window(monkeypatch: pytest.MonkeyPatch) -> int:
    """A window of 400 ms instead of a minute."""
    monkeypatch.setattr(limits, "WINDOW_MS", 400)
    return 400


def admitted(windows: RequestLimits, count: int, address: str = "a", key: bytes = KEY) -> int:
    good = 0
    for _ in range(count):
        try:
            windows.admit(address, key)
        except LimitExceeded:
            continue
        good += 1
    return good


def test_the_key_limit_and_its_headers(url: str) -> None:
    windows = RequestLimits(HotPathRedis(url), 10, 3)
    left = [windows.admit("a", KEY) for _ in range(3)]
    assert [allowance.remaining for allowance in left] == [2, 1, 0]
    assert all(allowance.limit == 3 for allowance in left)
    assert all(0 < allowance.reset_ms <= limits.WINDOW_MS for allowance in left)
    with pytest.raises(LimitExceeded, match="3 requests per minute per key") as refusal:
        windows.admit("a", KEY)
    assert refusal.value.status == 429
    assert refusal.value.retry_after_seconds == 60
    assert refusal.value.allowance.headers() == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }
    assert windows.admit("a", b"other" * 7).remaining == 2


def test_an_account_with_its_own_rate_has_one_window(url: str) -> None:
    windows = RequestLimits(HotPathRedis(url), 1, 1)
    rate, other = AccountRate(7, 3), AccountRate(8, 3)
    keys = (KEY, b"other" * 7, KEY)
    left = [windows.admit("a", key, rate) for key in keys]
    assert [(allowance.limit, allowance.remaining) for allowance in left] == [
        (3, 2),
        (3, 1),
        (3, 0),
    ]
    with pytest.raises(LimitExceeded, match="3 requests per minute per account") as refusal:
        windows.admit("b", KEY, rate)
    assert (refusal.value.limit, refusal.value.allowance.limit) == ("account", 3)
    # It used neither the window of its address nor those of its keys.
    assert windows.admit("a", KEY).remaining == 0
    assert windows.admit("a", KEY, other).remaining == 2


def test_the_address_limit_comes_first(url: str) -> None:
    windows = RequestLimits(HotPathRedis(url), 2, 100)
    assert windows.admit("a", None).limit == 2
    assert windows.admit("a", KEY).limit == 100
    with pytest.raises(LimitExceeded, match="2 requests per minute per address"):
        windows.admit("a", None)
    with pytest.raises(LimitExceeded, match="per address"):
        windows.admit("a", b"other" * 7)
    assert windows.admit("b", KEY).remaining == 98


def test_a_refused_request_counts_nowhere(url: str) -> None:
    windows = RequestLimits(HotPathRedis(url), 5, 2)
    assert admitted(windows, 10) == 2
    # The key's limit refused: three requests of the address are left.
    assert admitted(windows, 10, key=b"other" * 7) == 2
    assert admitted(windows, 10, key=b"third" * 7) == 1


def test_the_window_slides(url: str, short_window: int) -> None:
    windows = RequestLimits(HotPathRedis(url), 100, 2)
    pause = threading.Event()
    windows.admit("a", KEY)
    pause.wait(0.2)
    windows.admit("a", KEY)
    with pytest.raises(LimitExceeded) as refusal:
        windows.admit("a", KEY)
    # `reset_ms` is when the oldest request leaves, which frees one place, not two.
    assert 0 < refusal.value.allowance.reset_ms <= 200
    pause.wait(refusal.value.allowance.reset_ms / 1000 + 0.005)
    assert admitted(windows, 5) == 1


def test_redis_and_process_give_the_same_answers(redis_url: str) -> None:
    there, here = (RequestLimits(HotPathRedis(url), 4, 3) for url in (redis_url, AWAY))
    for address, key in [*[("a", KEY)] * 5, ("b", KEY), ("a", None), ("a", None), ("a", b"x" * 32)]:
        answers: list[Any] = []
        for windows in (there, here):
            try:
                allowance = windows.admit(address, key)
                answers.append((None, allowance.limit, allowance.remaining))
            except LimitExceeded as problem:
                answers.append((problem.message, problem.allowance.limit, 0))
        assert answers[0] == answers[1]


def test_a_redis_without_memory_leaves_the_limits_to_the_process(redis_url: str) -> None:
    windows = RequestLimits(HotPathRedis(redis_url), 100, 2)
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", 1)
        try:
            assert admitted(windows, 5) == 2
        finally:
            client.config_set("maxmemory", 0)


def test_windows_in_redis_expire(redis_url: str) -> None:
    RequestLimits(HotPathRedis(redis_url), 4, 3).admit("a", KEY)
    with redis.Redis.from_url(redis_url) as client:
        names = client.keys("promptly:rate:*")
        assert len(names) == 2
        assert all(0 < client.pttl(name) <= limits.WINDOW_MS for name in names)
        # Redis holds only part of a key's hash.
        assert not any(KEY in name for name in names)


def test_a_race_of_threads_admits_exactly_the_limit(url: str) -> None:
    windows = RequestLimits(HotPathRedis(url), 1000, 50)
    barrier = threading.Barrier(8)

    def run() -> int:
        barrier.wait(timeout=10)
        return admitted(windows, 20)

    with ThreadPoolExecutor(8) as pool:
        assert sum(future.result() for future in [pool.submit(run) for _ in range(8)]) == 50


def _race(url: str, start: Any, results: Any) -> None:
    windows = RequestLimits(HotPathRedis(url), 1000, 50)
    start.wait(20)
    results.put(admitted(windows, 60))


def test_a_race_of_processes_admits_exactly_the_limit(redis_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_race, args=(redis_url, start, results)) for _ in range(2)]
    for process in processes:
        process.start()
    assert sum(results.get(timeout=30) for _ in processes) == 50
    for process in processes:
        process.join(10)


def test_forgotten_windows_are_those_used_least_recently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recently_used, "MOST_NAMES", 3)
    windows = LocalWindows()
    assert [windows.admit([name], (1,))[0] for name in ("a", "b", "c", "a", "d")] == [0, 0, 0, 1, 0]
    assert windows.admit(["a"], (1,))[0] == 1
    assert windows.admit(["b"], (1,))[0] == 0


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0ms"),
        (12, "12ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1001, "2s"),
        (60_000, "1m0s"),
        (359_500, "6m0s"),
    ],
)
def test_durations(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text
