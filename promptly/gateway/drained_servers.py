"""Which model servers are drained, as this process last read it in PostgreSQL.

It is read in the background while there are requests. Only a request after some seconds without
any waits for it, as what was read then may be out of date. While PostgreSQL does not answer, the
last known state stays.
"""

import logging
import time

import psycopg2

from promptly.errors import PromptlyError
from promptly.gateway.shared_calls import SharedCall
from promptly.runtime.database import HotPathDatabase

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0
# No process sends a server a request that was drained so long ago, if PostgreSQL answers.
TRUSTED_SECONDS = 5.0

_NAMES = "SELECT url FROM drained_upstreams"


class DrainedServers:
    """The URLs of the drained servers; none without a database."""

    def __init__(self, database: HotPathDatabase | None = None) -> None:
        self._database = database
        self._names: frozenset[str] = frozenset()
        self._reading = SharedCall()
        self._refreshing = False
        self._read_at = float("-inf")

    def names(self) -> frozenset[str]:
        """Return the URLs; the same object as long as nothing has changed."""
        age = time.monotonic() - self._read_at
        if age < REFRESH_SECONDS or self._refreshing or self._database is None:
            return self._names
        if age < TRUSTED_SECONDS:
            self._start_refresh()
        else:
            self._reading.run(self._read)
        return self._names

    def _start_refresh(self) -> None:
        self._refreshing = True
        started = False
        try:
            started = self._reading.start(self._refresh, "read-drained-servers")
        finally:
            if not started:
                self._refreshing = False

    def _refresh(self) -> None:
        try:
            self._read()
        finally:
            self._refreshing = False

    def _read(self) -> None:
        if self._database is None:
            return
        try:
            names = frozenset(row[0] for row in self._database.fetch_all(_NAMES, {}))
        except (PromptlyError, psycopg2.Error) as problem:
            reason = type(problem).__name__
            logger.info("drained model servers not known", extra={"reason": reason})
        else:
            if names != self._names:
                self._names = names
        finally:
            self._read_at = time.monotonic()
