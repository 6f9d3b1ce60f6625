"""Circuit breaker: pause providers that hang, so that they do not keep all workers waiting.

Mail and the recovery of dead requests share the workers with payments. A quick error costs
nothing; only slow failures are remembered, in each process.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from promptly.clients.provider_errors import ProviderUnavailable

SLOW_SECONDS = 5.0
PAUSE_SECONDS = 60.0

_until: dict[str, float] = {}


@contextmanager
def watch(provider: str) -> Iterator[None]:
    """Watch the calls in the block: pause the provider if it is unavailable after SLOW_SECONDS."""
    started = time.monotonic()
    try:
        yield
    except ProviderUnavailable:
        now = time.monotonic()
        if now - started >= SLOW_SECONDS:
            _until[provider] = now + PAUSE_SECONDS
        raise


def pause_left(provider: str) -> float:
    """Return for how many more seconds to leave a provider alone; 0 if it is not paused."""
    return max(0.0, _until.get(provider, 0.0) - time.monotonic())


def reset() -> None:
    """End the pauses of all providers."""
    _until.clear()
