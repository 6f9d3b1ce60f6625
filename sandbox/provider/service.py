"""The service behind both stand-ins: API, pages and control routes over one account."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from sandbox.provider import control, state
from sandbox.provider.faults import Faults
from sandbox.provider.http import Answer, Handler, Request, Routes
from sandbox.provider.messages import Message
from sandbox.provider.records import Records
from sandbox.provider.sender import Sender
from sandbox.provider.simulated import Simulated


class Service(ABC):
    """Base class of the two services; ``error`` builds the answer of a fault with a status."""

    api_prefix: ClassVar[str]

    def __init__(
        self,
        simulated: Simulated,
        *,
        error: Callable[[int], Answer],
        retry_seconds: Sequence[float],
        is_final: Callable[[int], bool],
        on_delivered: Callable[[Message], None] = lambda _: None,
        serial: bool = False,
        state_file: Path | None = None,
    ) -> None:
        self.stopping = threading.Event()
        self.records = Records()
        self.faults = Faults(error, self.stopping)
        self.sender = Sender(
            retry_seconds,
            is_final=is_final,
            on_delivered=on_delivered,
            stopping=self.stopping,
            serial=serial,
        )
        self._keeper = state.Keeper(state_file)
        self._simulated = simulated
        simulated.restore(state.load(state_file))
        simulated.sender = self.sender
        simulated.changed = self._keeper.touch
        self.routes = Routes()
        control.add_shared(self.routes, self.sender, self.faults, self.records)
        control.add_action(self.routes, "reset", lambda _: self.reset())

    @abstractmethod
    def run_due(self) -> None:
        """Do what is due by the clock; the caller holds the lock."""

    @abstractmethod
    def call(self, request: Request, record: dict[str, Any]) -> Answer:
        """Answer an API call and add details to its record. Raises Cut to suppress the answer."""

    def handler(self, base_url: str) -> Handler:
        """Return the request handler; ``base_url`` is where clients reach it."""
        self._simulated.base_url = base_url
        return self._handle

    def tick(self) -> None:
        """Do what is due by the clock, and save the state if it has changed."""
        with self._simulated.lock:
            self.run_due()
            self._keeper.save(self._simulated.state)

    def reset(self) -> None:
        """Forget everything except where webhooks go."""
        with self._simulated.lock:
            self._simulated.restore({})
        self.faults.clear()
        self.sender.clear()
        self.records.clear()

    def _handle(self, request: Request) -> Answer:
        try:
            return self._serve(request)
        finally:
            if request.method != "GET":
                self._keeper.touch()

    def _serve(self, request: Request) -> Answer:
        if not request.path.startswith(self.api_prefix):
            found = self.routes.find(request)
            return found(request) if found is not None else Answer(status=404)
        record = self.records.begin(request)
        answer = None
        try:
            answer = self.call(request, record)
            return answer
        finally:
            self.records.end(record, answer)
