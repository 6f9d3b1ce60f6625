"""Figures that are computed from one run."""

from collections.abc import Callable

from bench.measure import Run

Value = Callable[[Run], float]


def spent(part: str, per: str) -> Value:
    """Return CPU microseconds of ``target``, ``postgres`` or ``redis`` per item of ``per``."""
    return lambda run: run.micros(part, per)


def rate(what: str) -> Value:
    """Return items per second."""
    return lambda run: float(run.seen[what]) / float(run.seen["seconds"])


def share(what: str, quantile: str) -> Value:
    """Return a quantile of the load generator's measurements, in milliseconds."""
    return lambda run: float(run.seen[what].get(quantile, float("inf")))
