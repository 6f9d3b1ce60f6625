import threading
from collections.abc import Callable

import pytest

from promptly.errors import RateLimited, ServiceUnavailable
from promptly.gateway.turns import RUNNING_COUNTS, WAITING_COUNTS, CountTurns, SmallestFirst

SECONDS = 30


def start(function: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(SECONDS * 100):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("never happened")


def test_the_smallest_is_next() -> None:
    turns = SmallestFirst(SECONDS)
    done: list[int] = []

    def work(size: int) -> None:
        with turns.turn(size):
            done.append(size)

    with turns.turn(0):
        threads = [start(lambda size=size: work(size)) for size in (3, 1, 2)]  # type: ignore[misc]
        until(lambda: len(turns._waiting) == 3)
    for thread in threads:
        thread.join(SECONDS)
    assert done == [1, 2, 3]
    work(4)
    assert done == [1, 2, 3, 4]


def test_a_failure_passes_the_turn_on() -> None:
    turns = SmallestFirst(SECONDS)
    with pytest.raises(ValueError, match="broken"), turns.turn(1):
        raise ValueError("broken")
    with turns.turn(1):
        pass


def test_a_turn_that_does_not_come_is_an_error() -> None:
    turns = SmallestFirst(0.05)
    with turns.turn(1):
        with pytest.raises(ServiceUnavailable) as refusal, turns.turn(2):
            pytest.fail("two turns at a time")
        assert refusal.value.headers()["retry-after"]
    # Nobody waits any more, and the turn is free.
    with turns.turn(3):
        pass


def test_an_account_counts_a_few_prompts_at_a_time() -> None:
    turns = CountTurns()
    end = threading.Event()
    lock = threading.Lock()
    running: list[int] = []
    most = 0

    def count() -> None:
        nonlocal most
        with turns.turn(1):
            with lock:
                running.append(1)
                most = max(most, len(running))
            end.wait(SECONDS)
            with lock:
                running.pop()

    threads = [start(count) for _ in range(RUNNING_COUNTS + WAITING_COUNTS)]
    until(lambda: turns._accounts[1].present == RUNNING_COUNTS + WAITING_COUNTS)
    until(lambda: len(running) == RUNNING_COUNTS)
    with pytest.raises(RateLimited) as refusal, turns.turn(1):
        pytest.fail("one more than may wait")
    assert refusal.value.retry_after_seconds
    with turns.turn(2):
        pass
    end.set()
    for thread in threads:
        thread.join(SECONDS)
    assert most == RUNNING_COUNTS
    assert not turns._accounts
