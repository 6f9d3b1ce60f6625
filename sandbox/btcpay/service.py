"""The complete stand-in: API, pages and control routes over one store."""

import threading
from collections.abc import Sequence
from pathlib import Path

from sandbox.btcpay import errors, invoices, webhooks
from sandbox.btcpay.api import Api
from sandbox.btcpay.control import add_control
from sandbox.btcpay.pages import add_pages
from sandbox.btcpay.store import Store
from sandbox.provider import control, state
from sandbox.provider.faults import Faults
from sandbox.provider.http import Answer, Handler, Request, Routes
from sandbox.provider.records import Records
from sandbox.provider.sender import Sender

API_PREFIX = "/api/"


class Service:
    """A simulated BTCPay Server. ``confirm_seconds``, if set, makes payments confirm after that."""

    def __init__(
        self,
        store_id: str,
        api_key: str,
        *,
        retry_seconds: Sequence[float],
        confirm_seconds: float | None = None,
        state_file: Path | None = None,
    ) -> None:
        self.stopping = threading.Event()
        self.store = Store(store_id, api_key)
        self.store.restore(state.load(state_file))
        self.records = Records()
        self.sender = Sender(
            retry_seconds,
            is_final=webhooks.is_final,
            on_delivered=lambda _: None,
            stopping=self.stopping,
            serial=True,
        )
        self.store.sender = self.sender
        self._faults = Faults(errors.simulated, self.stopping)
        self._confirm_seconds = confirm_seconds
        self._keeper = state.Keeper(state_file)
        self.store.changed = self._keeper.touch
        self._api = Api(self.store)
        self._routes = Routes()
        add_pages(self._routes, self.store)
        control.add_shared(self._routes, self.sender, self._faults, self.records)
        add_control(self._routes, self.store, self.sender, self._api)
        control.add_action(self._routes, "reset", lambda _: self.reset())

    def handler(self, base_url: str) -> Handler:
        """Return the request handler; ``base_url`` is where clients reach it."""
        self.store.base_url = base_url
        return self._handle

    def tick(self) -> None:
        """Expire overdue invoices, confirm due payments, and save the state."""
        with self.store.lock:
            for invoice in self.store.invoices.values():
                if invoice["status"] in ("New", "Processing"):
                    invoices.update(self.store, invoice)
            if self._confirm_seconds is not None:
                invoices.confirm_overdue(self.store, self._confirm_seconds)
            self._keeper.save(self.store.state)

    def reset(self) -> None:
        """Forget everything except the webhook."""
        with self.store.lock:
            self.store.restore({})
        self._faults.clear()
        self.sender.clear()
        self.records.clear()

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
            fault = self._faults.take(request)
            answer = self._faults.serve(fault, request, self._api.handle)
            return answer
        finally:
            self.records.end(record, answer)
