"""Providers that hang are left alone for a while, so that they do not keep all workers waiting.

Mail and the recovery of dead requests share the workers with payments. An error that comes quickly
costs nothing; what is remembered here, in each process, is who let us wait.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from promptly.clients.provider_errors import ProviderUnavailable

LONG_SECONDS = 5.0
PAUSE_SECONDS = 60.0

_until: dict[str, float] = {}


@contextmanager
def noticed(provider: str) -> Iterator[None]:
    """Around what asks a provider: notice if it keeps us waiting for nothing."""
    began = time.monotonic()
    try:
        yield
    except ProviderUnavailable:
        now = time.monotonic()
        if now - began >= LONG_SECONDS:
            _until[provider] = now + PAUSE_SECONDS
        raise


def pause_left(provider: str) -> float:
    """For how many seconds a provider should be left alone; 0 if it need not."""
    return max(0.0, _until.get(provider, 0.0) - time.monotonic())


def forget() -> None:
    """Give every provider another chance at once."""
    _until.clear()
