"""How many connections or requests each client address has open, over all workers of a gateway.

The counts are in memory that gunicorn's master shares with its workers: a table with a row for each
hash of an address, and a column for each worker. A worker only writes its own column, so no lock
is needed. When a worker has died, its column is cleared and given to the next one.
"""

import ipaddress
import mmap
from collections.abc import Collection
from functools import lru_cache

# Addresses that share a row share a count, which matters only if one of them is near the limit.
ROWS = 65_536
CELL_BYTES = 2

# Proxies and the operator's own clients have these; one of them may stand for many clients.
UNCOUNTED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)


class AddressCounts:
    """The table, as the worker with `column` counts in it; None: this worker does not count."""

    def __init__(self, columns: int) -> None:
        memory = mmap.mmap(-1, columns * ROWS * CELL_BYTES)
        self._cells = memoryview(memory).cast("H")
        self._columns = columns
        self.column: int | None = 0

    def use_free_column(self, used: Collection[int | None]) -> int | None:
        """Count in a column that no living worker uses, starting from zero; return its number.

        With more workers than columns, as while many old ones drain, the newest do not count.
        """
        self.column = next((number for number in range(self._columns) if number not in used), None)
        if self.column is not None:
            start = self.column * ROWS
            self._cells[start : start + ROWS] = memoryview(bytes(ROWS * CELL_BYTES)).cast("H")
        return self.column

    def total(self, row: int) -> int:
        """Return the count of all workers for a row."""
        return sum(self._cells[row::ROWS])

    def enter(self, row: int | None, limit: int) -> bool:
        """Count one more; return False, without counting it, if the limit is reached."""
        if row is None or self.column is None:
            return True
        if self.total(row) >= limit:
            return False
        self._cells[self.column * ROWS + row] += 1
        return True

    def leave(self, row: int | None) -> None:
        """Count one less, after `enter` returned True."""
        if row is not None and self.column is not None:
            self._cells[self.column * ROWS + row] -= 1


# Key of the WSGI environ under which a request's row is kept until its response is sent.
ENVIRON_ROW = "promptly.address_row"

# Of this process. gunicorn's master replaces it, and workers inherit it (gunicorn.conf.py).
counts = AddressCounts(1)


def share(workers: int) -> None:
    """Create the table of a gateway."""
    global counts
    counts = AddressCounts(columns_for(workers))


def columns_for(workers: int) -> int:
    """Return the number of columns: with room for workers that drain beside their successors."""
    return 2 * workers + 2


@lru_cache(maxsize=10_000)
def row_of(address: str) -> int | None:
    """Return the row of an IPv4 address or IPv6 /64; None for addresses that are not counted.

    Text that is not an address shares one row. The hash differs between gateways, so that
    nobody can choose addresses that share a row.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return hash("no address") % ROWS
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if any(parsed in network for network in UNCOUNTED):
        return None
    return hash(parsed.packed[:8]) % ROWS
