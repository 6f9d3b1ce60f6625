"""MAX_CONNECTIONS_PER_ADDRESS behind proxies: the requests that a client's address has in flight.

Without proxies the worker counts connections instead (runtime/gunicorn_worker.py).
"""

from flask import Flask, request

from promptly.errors import Limit, RateLimited
from promptly.proxies import client_address
from promptly.runtime import address_counts
from promptly.runtime.address_counts import ENVIRON_ROW
from promptly.settings import Settings, current_settings


def register(app: Flask) -> None:
    """Count requests before any view or other check runs, if that is configured."""
    settings: Settings = app.extensions["settings"]
    if settings.trusted_proxy_hops and settings.max_connections_per_address:
        app.before_request(count)


def count() -> None:
    """Count the request until gunicorn has sent its response; raises RateLimited."""
    row = address_counts.row_of(client_address())
    if not address_counts.counts.enter(row, current_settings().max_connections_per_address):
        raise RateLimited(
            "Too many requests from your address are running. Please wait for one to end.",
            limit=Limit.CONNECTIONS,
            retry_after_seconds=1,
        )
    request.environ[ENVIRON_ROW] = row
