"""Values from PostgreSQL that each process keeps in memory and reads again, off requests' path.

They are read in the background while there are requests. A request waits for a reading only if the
process had none for a while, as the value may be out of date, or has never had one. While
PostgreSQL does not answer, the last known value stays.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import psycopg2
from sqlalchemy.exc import SQLAlchemyError

from promptly.errors import PromptlyError
from promptly.gateway.shared_calls import SharedCall

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Until the next attempt, as long as the value was never read.
RETRY_SECONDS = 0.5

# Raised where PostgreSQL does not answer, or does not know a table yet.
FAILURES = (PromptlyError, SQLAlchemyError, psycopg2.Error)


class Refreshed(Generic[T]):
    """A value, `initial` until it was read; `name` is the thread's, and the log's.

    It is read every `every_seconds`, and trusted for `trusted_seconds`.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], T],
        initial: T,
        *,
        every_seconds: float,
        trusted_seconds: float = math.inf,
    ) -> None:
        self._name = name
        self._read = read
        self._value = initial
        self._every_seconds = every_seconds
        self._trusted_seconds = trusted_seconds
        self._is_known = False
        self._reading = SharedCall()
        # Moments in monotonic seconds: of the next reading, and until when nobody waits for it.
        self._due_at = self._trusted_until = -math.inf

    @property
    def is_reading(self) -> bool:
        return self._reading.is_running

    def get(self) -> T:
        """Return the value as it was last read."""
        now = time.monotonic()
        if now >= self._due_at:
            if now < self._trusted_until:
                self._reading.start(self._refresh, self._name)
            else:
                self._reading.run(self._refresh, lambda: time.monotonic() >= self._due_at)
        return self._value

    def refresh(self) -> None:
        """Read the value now."""
        self._reading.run(self._refresh)

    def _refresh(self) -> None:
        try:
            value = self._read()
        except FAILURES as problem:
            extra = {"subject": self._name, "reason": type(problem).__name__}
            logger.warning("not read from the database", extra=extra)
        except Exception:
            # A bug must not fail requests: the last known value still applies.
            logger.exception("not read from the database", extra={"subject": self._name})
        else:
            self._is_known = True
            self._value = value
        now = time.monotonic()
        if self._is_known:
            self._trusted_until = now + self._trusted_seconds
            self._due_at = now + self._every_seconds
        else:
            self._due_at = now + RETRY_SECONDS
