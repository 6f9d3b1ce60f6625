"""Calls that run one at a time for all that wait for them."""

import threading

import pytest

from promptly.gateway.shared_calls import SharedCall, run_all
from tests.support.books import wait_for


class Slow:
    """A call that runs until it is released, and counts."""

    def __init__(self) -> None:
        self.begun = 0
        self.running = 0
        self.most_running = 0
        self.released = threading.Event()

    def __call__(self) -> None:
        self.begun += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        assert self.released.wait(10)
        self.running -= 1


def test_those_that_come_during_a_call_share_the_next_one() -> None:
    shared, slow = SharedCall(), Slow()
    assert shared.start(slow, "first")
    assert not shared.start(slow, "second")
    arrived = threading.Barrier(6)

    def come() -> None:
        arrived.wait(10)
        shared.run(slow)

    threads = [threading.Thread(target=come) for _ in range(5)]
    for thread in threads:
        thread.start()
    arrived.wait(10)
    slow.released.set()
    for thread in threads:
        thread.join(10)
    assert slow.most_running == 1
    # The first one may have been asked before what they want to know happened. Threads that the
    # machine runs late make a call of their own.
    assert 2 <= slow.begun <= 6
    slow.released.set()
    shared.run(slow)
    assert slow.most_running == 1


def test_a_call_that_is_not_needed_any_more() -> None:
    shared, slow = SharedCall(), Slow()
    slow.released.set()
    shared.run(slow, lambda: False)
    assert slow.begun == 0
    shared.run(slow, lambda: True)
    assert slow.begun == 1


def test_a_call_that_raises_leaves_the_way_free() -> None:
    shared, slow = SharedCall(), Slow()
    slow.released.set()

    def fail() -> None:
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        shared.run(fail)
    shared.run(slow)
    assert shared.start(slow, "last")
    wait_for(lambda: slow.begun == 2 and not slow.running, "the last call")


def test_calls_run_at_the_same_time() -> None:
    together = threading.Barrier(3)
    run_all([lambda: together.wait(10)] * 3, "together")
    assert not together.broken
    run_all([], "nothing")
