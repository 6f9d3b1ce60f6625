"""The complete stand-in: API, hosted page and control routes over one account."""

import threading
from collections.abc import Sequence
from pathlib import Path

from sandbox.provider import control, state
from sandbox.provider.faults import Faults
from sandbox.provider.http import Answer, Handler, Request, Routes
from sandbox.provider.messages import Message
from sandbox.provider.records import Records
from sandbox.provider.sender import Sender
from sandbox.stripe import checkout, errors
from sandbox.stripe.account import Account
from sandbox.stripe.api import Api
from sandbox.stripe.control import add_control
from sandbox.stripe.pages import add_pages

API_PREFIX = "/v1/"


class Service:
    """A simulated Stripe. ``settle_seconds``, if set, makes bank debits succeed after that time."""

    def __init__(
        self,
        secret_key: str,
        *,
        retry_seconds: Sequence[float],
        settle_seconds: float | None = None,
        state_file: Path | None = None,
    ) -> None:
        self.stopping = threading.Event()
        self.account = Account(secret_key)
        self.account.restore(state.load(state_file))
        self.records = Records()
        self.sender = Sender(
            retry_seconds,
            # Stripe retries everything but a success.
            is_final=lambda _: False,
            on_delivered=self._delivered,
            stopping=self.stopping,
        )
        self.account.sender = self.sender
        self._faults = Faults(errors.simulated, self.stopping)
        self._settle_seconds = settle_seconds
        self._keeper = state.Keeper(state_file)
        self.account.changed = self._keeper.touch
        self._api = Api(self.account, self._faults)
        self._routes = Routes()
        add_pages(self._routes, self.account)
        control.add_shared(self._routes, self.sender, self._faults, self.records)
        add_control(self._routes, self.account, self.sender)
        control.add_action(self._routes, "reset", lambda _: self.reset())

    def handler(self, base_url: str) -> Handler:
        """Return the request handler; ``base_url`` is where clients reach it."""
        self.account.base_url = base_url
        return self._handle

    def tick(self) -> None:
        """Expire overdue sessions, settle due debits, and save the state."""
        with self.account.lock:
            checkout.expire_overdue(self.account)
            if self._settle_seconds is not None:
                checkout.settle_overdue(self.account, self._settle_seconds)
            self._keeper.save(self.account.state)

    def reset(self) -> None:
        """Forget everything except the endpoints."""
        with self.account.lock:
            self.account.forget()
        self._faults.clear()
        self._api.keys.clear()
        self.sender.clear()
        self.records.clear()

    def _delivered(self, message: Message) -> None:
        self.account.delivered(message.source)

    def _handle(self, request: Request) -> Answer:
        try:
            return self._serve(request)
        finally:
            if request.method != "GET":
                self._keeper.touch()

    def _serve(self, request: Request) -> Answer:
        if not request.path.startswith(API_PREFIX):
            found = self._routes.find(request)
            return found(request) if found is not None else Answer(status=404)
        record = self.records.begin(request)
        answer = None
        try:
            answer = self._api.handle(request, record)
            return answer
        finally:
            self.records.end(record, answer)
