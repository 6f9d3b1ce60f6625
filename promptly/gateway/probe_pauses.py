"""How long a model server is left alone between two probes.

A server that does not answer is asked ever less often, and each process at other times, so that a
crowd of processes does not hinder its start.
"""

import random

LONGEST_SECONDS = 60.0
# While it loads its model it answers 503 to everything, and it will be ready soon.
LOADING_SECONDS = 2.0
JITTER = 0.25


def after_failures(number: int, shortest_seconds: float) -> float:
    """Return the pause after this number of failed probes in a row; always the same after none."""
    if number == 0:
        return shortest_seconds
    longest = LONGEST_SECONDS / (1 + JITTER)
    return _spread(min(shortest_seconds * 2 ** min(number - 1, 16), longest))


def while_loading() -> float:
    """Return the pause after an answer that the model is being loaded."""
    return _spread(LOADING_SECONDS)


def _spread(pause: float) -> float:
    return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
