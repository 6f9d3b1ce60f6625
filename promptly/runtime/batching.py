"""Batching of work that is cheaper in bulk: items submitted while a batch runs form the next.

No item waits for others to arrive. The first item of a batch leads it: its thread waits for the
running batch to end, takes all items submitted by then, and hands out the results.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_ITEMS = 100


class BatchCut(Exception):
    """The batch's leader was terminated before it had results."""


class _Batch(Generic[T, R]):
    __slots__ = ("done", "items", "problem", "results")

    def __init__(self) -> None:
        self.items: list[T] = []
        self.results: list[R] = []
        self.problem: Exception | None = None
        self.done = threading.Event()


class Batcher(Generic[T, R]):
    """Runs items in batches, one batch at a time; `run` returns one result per item."""

    def __init__(self, run: Callable[[list[T]], list[R]]) -> None:
        self._run = run
        self._forming: _Batch[T, R] = _Batch()
        self._running = threading.Lock()

    def submit(self, item: T) -> R:
        """Return the item's result; raises the exception that its batch raised."""
        batch = self._forming
        place = len(batch.items)
        batch.items.append(item)
        if place + 1 >= MAX_ITEMS:
            self._forming = _Batch()
        if place:
            batch.done.wait()
        else:
            self._lead(batch)
        if batch.problem is not None:
            raise batch.problem
        return batch.results[place]

    def _lead(self, batch: _Batch[T, R]) -> None:
        with self._running:
            # Items submitted from here on form the next batch.
            if self._forming is batch:
                self._forming = _Batch()
            try:
                batch.results = self._run(batch.items)
            except Exception as problem:
                batch.problem = problem
            except BaseException:
                # Only the leader is being terminated: the other items raise BatchCut.
                batch.problem = BatchCut("the batch was cut off")
                raise
            finally:
                batch.done.set()
