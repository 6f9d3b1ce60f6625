"""Faults of the provider's API, by route and number of times: slow, refused, lost answers."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from sandbox.provider.http import Answer, Cut, Handler, Request

BEFORE, AFTER = "before", "after"


@dataclass(slots=True)
class Fault:
    """What befalls requests whose method and path match ``route``, as in ``POST /v1/refunds``.

    ``when`` says whether the provider has done what was asked: "before" means that the fault
    comes first (a slow one does the work afterwards, whoever still listens), "after" that only
    the answer suffers. ``times`` None means until cleared.
    """

    route: str = "*"
    when: str = BEFORE
    seconds: float = 0.0
    status: int = 0
    cut: bool = False
    kept: bool = False  # Stripe: the error is stored under the idempotency key
    times: int | None = None

    def __post_init__(self) -> None:
        if self.when not in (BEFORE, AFTER):
            raise ValueError("when must be before or after")


class Faults:
    """The faults in force. The first one that matches a request befalls it."""

    def __init__(self, error: Callable[[int], Answer], stopping: threading.Event) -> None:
        self._error = error
        self._stopping = stopping
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, values: Mapping[str, Any]) -> None:
        """Put a fault in force.

        Raises ValueError for a name or value that a fault does not have.
        """
        unknown = set(values) - {item.name for item in fields(Fault)}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        with self._lock:
            self._faults.append(Fault(**values))

    def clear(self) -> None:
        """Back to normal."""
        with self._lock:
            self._faults.clear()

    def take(self, request: Request) -> Fault | None:
        """Return the fault that befalls this request, having counted it."""
        with self._lock:
            for fault in self._faults:
                if fault.times == 0 or not fnmatchcase(
                    f"{request.method} {request.path}", fault.route
                ):
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def serve(self, fault: Fault | None, request: Request, handler: Handler) -> Answer:
        """Answer a request under a fault. Raises Cut where no answer is to be sent."""
        if fault is None:
            return handler(request)
        if fault.when == AFTER:
            answer = handler(request)
            self._wait(fault)
        else:
            self._wait(fault)
            answer = Answer()
            if not fault.status and not fault.cut:
                return handler(request)
        if fault.cut:
            raise Cut
        return self._error(fault.status) if fault.status else answer

    def _wait(self, fault: Fault) -> None:
        if fault.seconds and self._stopping.wait(fault.seconds):
            raise Cut
