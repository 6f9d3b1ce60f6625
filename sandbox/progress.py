"""Progress messages for slow steps, so that the terminal does not stay silent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 2.0


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print the step's name if it takes longer than two seconds."""
    timer = threading.Timer(PATIENCE_SECONDS, print, (f"promptly: {name} ...",), {"flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
