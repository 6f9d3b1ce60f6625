"""MAX_CONNECTIONS_PER_ADDRESS behind proxies: the requests that a client's address has in flight.

Without proxies the worker counts connections instead (runtime/gunicorn_worker.py).
"""

from typing import Any

from promptly.errors import Limit, RateLimited
from promptly.proxies import address_of
from promptly.runtime import address_counts
from promptly.runtime.address_counts import ENVIRON_ROW
from promptly.settings import Settings


def count(environ: dict[str, Any], settings: Settings) -> None:
    """Count the request until gunicorn has sent its response; raises RateLimited.

    Runs before any other check.
    """
    hops, limit = settings.trusted_proxy_hops, settings.max_connections_per_address
    if not (hops and limit):
        return
    row = address_counts.row_of(address_of(environ, hops))
    if not address_counts.counts.enter(row, limit):
        raise RateLimited(
            "Too many requests from your address are running. Please wait for one to end.",
            limit=Limit.CONNECTIONS,
            retry_after_seconds=1,
        )
    environ[ENVIRON_ROW] = row
