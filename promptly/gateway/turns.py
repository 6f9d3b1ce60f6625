"""Turns: bounds on what runs at a time in this process, for work that would crowd out others."""

import heapq
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from promptly.errors import Limit, RateLimited, ServiceUnavailable

# Counts of one account's prompts: running, and waiting for their turn.
RUNNING_COUNTS = 4
WAITING_COUNTS = 16
COUNT_WAIT_SECONDS = 30


class SmallestFirst:
    """One turn at a time; of those that wait, the smallest piece of work is next."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._is_taken = False
        self._numbers = count()
        self._waiting: list[tuple[int, int, threading.Event]] = []

    @contextmanager
    def turn(self, size: int) -> Iterator[None]:
        """Wait for the turn, and keep it while the context is open.

        Raises ServiceUnavailable if it does not come in time.
        """
        self._wait(size)
        try:
            yield
        finally:
            self._pass_on()

    def _wait(self, size: int) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            place = (size, next(self._numbers), threading.Event())
            heapq.heappush(self._waiting, place)
        try:
            if not place[2].wait(self._wait_seconds):
                raise ServiceUnavailable
        except BaseException:
            self._leave(place)
            raise

    def _leave(self, place: tuple[int, int, threading.Event]) -> None:
        with self._lock:
            if place in self._waiting:
                self._waiting.remove(place)
                heapq.heapify(self._waiting)
                return
        # It was our turn already.
        self._pass_on()

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                heapq.heappop(self._waiting)[2].set()
            else:
                self._is_taken = False


class CountTurns:
    """Counts of prompts, bounded per account: upstream counts for nothing, but not in no time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[int, _Account] = {}

    @contextmanager
    def turn(self, user_id: int) -> Iterator[None]:
        """Wait until the account may count; raises RateLimited if too many of its counts wait."""
        with self._lock:
            account = self._accounts.setdefault(user_id, _Account())
            if account.present >= RUNNING_COUNTS + WAITING_COUNTS:
                raise _too_many()
            account.present += 1
        try:
            if not account.running.acquire(timeout=COUNT_WAIT_SECONDS):
                raise _too_many()
            try:
                yield
            finally:
                account.running.release()
        finally:
            with self._lock:
                account.present -= 1
                if not account.present:
                    del self._accounts[user_id]


class _Account:
    __slots__ = ("present", "running")

    def __init__(self) -> None:
        self.present = 0
        self.running = threading.Semaphore(RUNNING_COUNTS)


def _too_many() -> RateLimited:
    return RateLimited(
        "Too many prompts of this account are being counted. Try again when they are.",
        limit=Limit.COUNTING,
        retry_after_seconds=2,
    )
