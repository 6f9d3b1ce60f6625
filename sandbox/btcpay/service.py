"""The complete stand-in: API, pages and control routes over one store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from sandbox.btcpay import errors, invoices, webhooks
from sandbox.btcpay.api import Api
from sandbox.btcpay.control import add_control
from sandbox.btcpay.pages import add_pages
from sandbox.btcpay.store import Store
from sandbox.provider import service
from sandbox.provider.http import Answer, Request


class Service(service.Service):
    """A simulated BTCPay Server. ``confirm_seconds``, if set, makes payments confirm after that."""

    api_prefix: ClassVar[str] = "/api/"

    def __init__(
        self,
        store_id: str,
        api_key: str,
        *,
        retry_seconds: Sequence[float],
        confirm_seconds: float | None = None,
        state_file: Path | None = None,
    ) -> None:
        self.store = Store(store_id, api_key)
        super().__init__(
            self.store,
            error=errors.simulated,
            retry_seconds=retry_seconds,
            is_final=webhooks.is_final,
            serial=True,
            state_file=state_file,
        )
        self._confirm_seconds = confirm_seconds
        self._api = Api(self.store)
        add_pages(self.routes, self.store)
        add_control(self.routes, self.store, self.sender, self._api)

    def run_due(self) -> None:
        """Expire overdue invoices and confirm due payments."""
        for invoice in self.store.invoices.values():
            if invoice["status"] in ("New", "Processing"):
                invoices.update(self.store, invoice)
        if self._confirm_seconds is not None:
            invoices.confirm_overdue(self.store, self._confirm_seconds)

    def call(self, request: Request, record: dict[str, Any]) -> Answer:
        return self.faults.serve(self.faults.take(request), request, self._api.handle)
