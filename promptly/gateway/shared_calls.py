"""Calls that run one at a time, and whose result all that wait for one share."""

import threading
from collections.abc import Callable, Iterable


def _always() -> bool:
    return True


class SharedCall:
    """A call to one server, never run twice at the same time."""

    __slots__ = ("_begun", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0

    @property
    def is_running(self) -> bool:
        return self._lock.locked()

    def run(self, call: Callable[[], None], needed: Callable[[], bool] = _always) -> None:
        """Run the call, or wait for another one that began after this method was entered.

        With `needed`, only if that is true once no call is running.
        """
        begun = self._begun
        with self._lock:
            if self._begun == begun and needed():
                self._begun += 1
                call()

    def start(self, call: Callable[[], None], name: str) -> bool:
        """Run the call in a thread of that name; False if one is running."""
        if not self._lock.acquire(blocking=False):
            return False
        self._begun += 1

        def run() -> None:
            try:
                call()
            finally:
                self._lock.release()

        try:
            threading.Thread(target=run, name=name, daemon=True).start()
        except BaseException:
            self._lock.release()
            raise
        return True


def run_all(calls: Iterable[Callable[[], object]], name: str) -> None:
    """Run calls in parallel, in threads of that name, and wait for all of them."""
    first, *others = list(calls) or [lambda: None]
    threads = [threading.Thread(target=call, name=name, daemon=True) for call in others]
    for thread in threads:
        thread.start()
    first()
    for thread in threads:
        thread.join()
