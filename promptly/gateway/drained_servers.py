"""Which model servers are drained, as this process last read it in PostgreSQL."""

from promptly.gateway.refreshed import Refreshed
from promptly.runtime.database import HotPathDatabase

REFRESH_SECONDS = 2.0
# No process sends a server a request that was drained so long ago, if PostgreSQL answers.
TRUSTED_SECONDS = 5.0

_NAMES = "SELECT url FROM drained_upstreams"


class DrainedServers:
    """The URLs of the drained servers; none without a database."""

    def __init__(self, database: HotPathDatabase | None = None) -> None:
        self._database = database
        self._names: Refreshed[frozenset[str]] = Refreshed(
            "drained-servers",
            self._read,
            frozenset(),
            every_seconds=REFRESH_SECONDS,
            trusted_seconds=TRUSTED_SECONDS,
        )

    def names(self) -> frozenset[str]:
        """Return the URLs as they were last read."""
        return self._names.get()

    def _read(self) -> frozenset[str]:
        if self._database is None:
            return frozenset()
        return frozenset(row[0] for row in self._database.fetch_all(_NAMES, {}))
