"""API faults by route and count: slow calls, errors, lost answers."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from sandbox.provider.http import Answer, Cut, Handler, Request

BEFORE, AFTER = "before", "after"


@dataclass(slots=True)
class Fault:
    """A fault of requests whose method and path match ``route``, as in ``POST /v1/refunds``.

    ``when`` is relative to the provider's work: "before" applies the fault first (a mere delay
    does the work afterwards, even if the client is gone), "after" affects only the answer.
    ``times`` None means until cleared.
    """

    route: str = "*"
    when: str = BEFORE
    seconds: float = 0.0
    status: int = 0
    cut: bool = False
    kept: bool = False  # Stripe: store the error under the idempotency key
    times: int | None = None

    def __post_init__(self) -> None:
        if self.when not in (BEFORE, AFTER):
            raise ValueError("when must be before or after")


class Faults:
    """The active faults; the first one that matches a request applies."""

    def __init__(self, error: Callable[[int], Answer], stopping: threading.Event) -> None:
        self._error = error
        self._stopping = stopping
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, values: Mapping[str, Any]) -> None:
        """Activate a fault.

        Raises ValueError for an unknown name or an invalid value.
        """
        unknown = set(values) - {item.name for item in fields(Fault)}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        with self._lock:
            self._faults.append(Fault(**values))

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, request: Request) -> Fault | None:
        """Return the fault that applies to this request, and count it."""
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
        """Answer a request under a fault. Raises Cut if no answer is to be sent."""
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
