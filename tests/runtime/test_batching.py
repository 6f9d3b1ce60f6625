"""Batches run one at a time, no item is lost, and each caller gets its own result."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from promptly.runtime.batching import MAX_ITEMS, BatchCut, Batcher


class Work:
    """A batch function that doubles its items, and blocks until `go` is set."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.at_a_time = 0

    def __call__(self, items: list[int]) -> list[int]:
        self.at_a_time += 1
        assert self.at_a_time == 1
        self.batches.append(list(items))
        self.begun.set()
        assert self.go.wait(20)
        self.at_a_time -= 1
        if -1 in items:
            raise ValueError("a bad item")
        return [item * 2 for item in items]


def wait_for_forming(batcher: Batcher[int, int], count: int) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if len(batcher._forming.items) >= count:
            return
        pause.wait(0.01)
    raise AssertionError("they did not come")


def test_items_submitted_meanwhile_form_one_batch() -> None:
    work = Work()
    batcher = Batcher(work)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(batcher.submit, 1)
        assert work.begun.wait(20)
        others = [pool.submit(batcher.submit, number) for number in range(2, 10)]
        wait_for_forming(batcher, 8)
        work.go.set()
        assert first.result(20) == 2
        assert [other.result(20) for other in others] == [2 * n for n in range(2, 10)]
    assert work.batches[0] == [1] and sorted(work.batches[1]) == list(range(2, 10))


def test_a_failure_is_its_batch_s_alone() -> None:
    work = Work()
    batcher = Batcher(work)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.submit, 1)
        assert work.begun.wait(20)
        bad = [pool.submit(batcher.submit, number) for number in (-1, 5)]
        wait_for_forming(batcher, 2)
        work.go.set()
        assert first.result(20) == 2
        for future in bad:
            with pytest.raises(ValueError, match="bad item"):
                future.result(20)
    assert batcher.submit(3) == 6


def test_a_batch_is_bounded() -> None:
    work = Work()
    batcher = Batcher(work)
    count = MAX_ITEMS + 20
    with ThreadPoolExecutor(count + 1) as pool:
        first = pool.submit(batcher.submit, 0)
        assert work.begun.wait(20)
        others = [pool.submit(batcher.submit, number) for number in range(1, count + 1)]
        wait_for_forming(batcher, 20)
        work.go.set()
        assert first.result(20) == 0
        assert [other.result(20) for other in others] == [2 * n for n in range(1, count + 1)]
    assert max(len(batch) for batch in work.batches) <= MAX_ITEMS


def test_followers_of_an_ended_leader_get_an_error() -> None:
    begun, go = threading.Event(), threading.Event()
    endings: list[BaseException] = []

    def run(items: list[int]) -> list[int]:
        begun.set()
        assert go.wait(20)
        if len(items) == 2:
            raise KeyboardInterrupt
        return items

    batcher = Batcher(run)

    def submit(number: int) -> None:
        try:
            batcher.submit(number)
        except BaseException as problem:
            endings.append(problem)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(3)]
    threads[0].start()
    assert begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    wait_for_forming(batcher, 2)
    go.set()
    for thread in threads:
        thread.join(20)
    assert {type(problem) for problem in endings} == {BatchCut, KeyboardInterrupt}
