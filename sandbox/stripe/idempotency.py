"""Idempotency keys as Stripe keeps them: the first answer to each, even a failure."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from sandbox.provider.http import Answer
from sandbox.stripe.errors import ApiError

MAX_KEY_CHARACTERS = 255

REPLAYED = "Idempotent-Replayed"


@dataclass(slots=True)
class _Kept:
    asked: tuple[str, bytes]
    answer: Answer | None = None  # None while the first call is running


class Idempotency:
    """Answers by key. Keys do not expire here."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def once(self, key: str, path: str, body: bytes, work: Callable[[], Answer]) -> Answer:
        """Do the work if the key is new, else repeat the first answer.

        Exceptions of ``work`` are not stored. Raises ApiError for a key that was used for another
        call, or whose first call is still running.
        """
        if len(key) > MAX_KEY_CHARACTERS:
            raise ApiError(f"Idempotency keys have at most {MAX_KEY_CHARACTERS} characters.")
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                self._kept[key] = _Kept((path, body))
        if kept is None:
            try:
                answer = work()
            except BaseException:
                self.forget(key)
                raise
            self.keep(key, path, body, answer)
            return answer
        if kept.asked != (path, body):
            raise ApiError(
                f"The key {key} was first used with other parameters.", type="idempotency_error"
            )
        if kept.answer is None:
            raise ApiError(
                f"Another request with the key {key} is in progress.",
                code="idempotency_key_in_use",
                status=409,
                type="idempotency_error",
            )
        return replace(kept.answer, headers=kept.answer.headers | {REPLAYED: "true"})

    def keep(self, key: str, path: str, body: bytes, answer: Answer) -> None:
        """Store the answer for a key, replacing any earlier one."""
        with self._lock:
            self._kept[key] = _Kept((path, body), answer)

    def forget(self, key: str) -> None:
        """Forget a key, so that its next call is executed."""
        with self._lock:
            self._kept.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
