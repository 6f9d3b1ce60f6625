"""Long computations off the event loop of gevent."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import gevent
from gevent import monkey

P = ParamSpec("P")
R = TypeVar("R")


def call(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that computes for long, in a native thread while other greenlets go on.

    It must release the GIL and use nothing of gevent. In a process without gevent, it runs in the
    thread of the caller.
    """
    if monkey.is_module_patched("threading"):
        return gevent.get_hub().threadpool.apply(function, args, kwargs)
    return function(*args, **kwargs)
