"""The Greenfield API: authorization, calls and their answers."""

from collections.abc import Callable
from typing import Any

from sandbox.btcpay import answers, invoices, refunds, requests
from sandbox.btcpay.accounting import Invoice
from sandbox.btcpay.errors import ApiError, Invalid
from sandbox.btcpay.store import (
    ARCHIVE_PULL_PAYMENTS,
    CREATE_INVOICE,
    MODIFY_INVOICES,
    REFUND,
    VIEW_INVOICES,
    VIEW_PULL_PAYMENTS,
    Store,
)
from sandbox.provider.http import Answer, Request, Routes, json_answer

INVOICES = "/api/v1/stores/{store}/invoices"
PULL_PAYMENTS = "/api/v1/pull-payments"

# Of calls that every key may make.
ANY = "any"

Call = Callable[[Request], Any]


class Api:
    """All calls below ``/api/v1``."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._routes = Routes()
        one = f"{INVOICES}/{{invoice}}"
        self._add("POST", INVOICES, CREATE_INVOICE, self._create)
        self._add("GET", INVOICES, VIEW_INVOICES, self._list)
        self._add("GET", one, VIEW_INVOICES, self._get)
        self._add("GET", f"{one}/payment-methods", VIEW_INVOICES, self._payment_methods)
        self._add("POST", f"{one}/status", MODIFY_INVOICES, self._mark)
        self._add("POST", f"{one}/refund", REFUND, self._refund)
        of_store = "/api/v1/stores/{store}/pull-payments"
        self._add("GET", of_store, VIEW_PULL_PAYMENTS, self._pull_payments)
        self._add("DELETE", f"{of_store}/{{id}}", ARCHIVE_PULL_PAYMENTS, self._archive)
        self._add("GET", "/api/v1/server/info", ANY, self._server)
        self._add("GET", "/api/v1/api-keys/current", ANY, self._key)
        # Knowing a pull payment's id is enough to view it.
        self._add("GET", f"{PULL_PAYMENTS}/{{id}}", "", self._pull_payment)
        self._add("GET", f"{PULL_PAYMENTS}/{{id}}/payouts", "", self._payouts)

    def handle(self, request: Request) -> Answer:
        found = self._routes.find(request)
        return found(request) if found is not None else Answer(status=404)

    def shown(self, invoice: Invoice) -> dict[str, Any]:
        """Return an invoice as the API shows it."""
        marks = invoices.markable(invoice)
        return answers.invoice(invoice, self.store.id, self.store.base_url, marks)

    def _add(self, method: str, template: str, permission: str, call: Call) -> None:
        def serve(request: Request) -> Answer:
            try:
                if permission:
                    self._authorize(request, permission)
                with self.store.lock:
                    value = call(request)
            except (ApiError, Invalid) as error:
                return error.answer()
            return Answer() if value is None else json_answer(value)

        self._routes.add(method, template, serve)

    def _authorize(self, request: Request, permission: str) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "token" or key != self.store.api_key:
            raise ApiError(
                401, "unauthenticated", "Authentication is required for accessing this endpoint"
            )
        if permission == ANY:
            return
        # The key is for one store; the answer does not even reveal whether others exist.
        if request.values["store"] != self.store.id or not self.store.may(permission):
            raise ApiError(
                403,
                "missing-permission",
                f'Insufficient API Permissions. Please use an API key with "{permission}".',
                missingPermission=permission,
            )

    def _create(self, request: Request) -> Any:
        return self.shown(invoices.create(self.store, requests.invoice(request.body)))

    def _list(self, request: Request) -> Any:
        given = requests.filters(request.query)
        found = [
            item
            for item in reversed(self.store.invoices.values())
            if given["startDate"] <= item["created"] <= given["endDate"]
            and (not given["orderId"] or item["metadata"].get("orderId") in given["orderId"])
            and (not given["status"] or item["status"] in given["status"])
        ]
        end = None if given["take"] is None else given["skip"] + given["take"]
        return [self.shown(item) for item in found[given["skip"] : end]]

    def _get(self, request: Request) -> Any:
        return self.shown(self.store.invoice(request.values["invoice"]))

    def _payment_methods(self, request: Request) -> Any:
        requests.flags(request.query, "onlyAccountedPayments", "includeSensitive")
        return answers.payment_methods(self.store.invoice(request.values["invoice"]))

    def _mark(self, request: Request) -> Any:
        status = requests.body(request.body, requests.MARK)["status"]
        return self.shown(invoices.mark(self.store, request.values["invoice"], status))

    def _refund(self, request: Request) -> Any:
        asked = requests.refund(request.body, self.store.version)
        made = refunds.refund(self.store, request.values["invoice"], asked)
        return answers.pull_payment(made, self.store.base_url)

    def _pull_payment(self, request: Request) -> Any:
        found = self.store.pull_payment(request.values["id"])
        return answers.pull_payment(found, self.store.base_url)

    def _pull_payments(self, request: Request) -> Any:
        archived_too = requests.flags(request.query, "includeArchived")
        return [
            answers.pull_payment(item, self.store.base_url)
            for item in self.store.pull_payments.values()
            if archived_too or not item["archived"]
        ]

    def _payouts(self, request: Request) -> Any:
        cancelled_too = requests.flags(request.query, "includeCancelled")
        found = answers.payouts(self.store.pull_payment(request.values["id"]))
        return [item for item in found if cancelled_too or item["state"] != "Cancelled"]

    def _server(self, request: Request) -> Any:
        return answers.server(self.store.version, self.store.methods)

    def _key(self, request: Request) -> Any:
        return answers.key(self.store.api_key, self.store.permissions, self.store.id)

    def _archive(self, request: Request) -> Any:
        refunds.archive(self.store, request.values["id"])
