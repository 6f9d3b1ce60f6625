"""A time limit of gevent that other greenlets can expire early."""

from typing import Any, Literal, Self

import gevent
from greenlet import greenlet as Greenlet


class EarlyTimeout(gevent.Timeout):
    """A time limit, used as a context; `cut` expires it while the context is open."""

    _greenlet: Greenlet | None = None

    def __enter__(self) -> Self:
        self._greenlet = gevent.getcurrent()
        super().__enter__()
        return self

    def __exit__(self, *failure: Any) -> Literal[True] | None:
        self._greenlet = None
        return super().__exit__(*failure)

    def cut(self) -> None:
        """Expire the wait soon, if it still goes on then; never blocks."""
        gevent.get_hub().loop.run_callback(self._expire)

    def _expire(self) -> None:
        # The wait may have ended after `cut`: its greenlet must not be hit in its next one.
        if self._greenlet is not None:
            self._greenlet.throw(self)
