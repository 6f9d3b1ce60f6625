"""Long computations off the event loop of gevent, and locks that greenlets hold very shortly."""

from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

import gevent
from gevent import monkey

P = ParamSpec("P")
R = TypeVar("R")


def lock() -> Any:
    """Return a lock for a section that neither blocks nor switches greenlets: gevent costs more."""
    return monkey.get_original("_thread", "allocate_lock")()


def call(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that computes for long, in a native thread while other greenlets go on.

    It must not keep the GIL for long at a time, and use nothing of gevent. In a process without
    gevent, it runs in the thread of the caller.
    """
    if not monkey.is_module_patched("threading"):
        return function(*args, **kwargs)
    # gevent would print the traceback of an exception, with its message, and raise it as well.
    outcome = gevent.get_hub().threadpool.apply(_outcome, (partial(function, *args, **kwargs),))
    if isinstance(outcome, _Failed):
        try:
            raise outcome.problem
        finally:
            # Exception and frame would keep each other in memory, and all that was passed in.
            del outcome
    return cast(R, outcome)


class _Failed:
    def __init__(self, problem: BaseException) -> None:
        self.problem = problem


def _outcome(function: Callable[[], R]) -> R | _Failed:
    try:
        return function()
    except BaseException as problem:
        return _Failed(problem)
