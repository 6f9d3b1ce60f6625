"""A store of a BTCPay Server: its invoices, pull payments, API key and webhook."""

import secrets
import string
from typing import Any

from sandbox.btcpay import webhooks
from sandbox.btcpay.accounting import Invoice
from sandbox.btcpay.errors import ApiError
from sandbox.btcpay.webhooks import Webhook
from sandbox.provider.simulated import Simulated

BASE58 = "".join(letter for letter in string.digits + string.ascii_letters if letter not in "0OIl")

ON_CHAIN, LIGHTNING, LNURL = "BTC-CHAIN", "BTC-LN", "BTC-LNURL"
# A Lightning node that is connected to a store brings both of the latter.
METHODS = (ON_CHAIN, LIGHTNING, LNURL)

# The version whose description the stand-in follows.
VERSION = "2.4.1"

CREATE_INVOICE = "btcpay.store.cancreateinvoice"
VIEW_INVOICES = "btcpay.store.canviewinvoices"
MODIFY_INVOICES = "btcpay.store.canmodifyinvoices"
REFUND = "btcpay.store.cancreatenonapprovedpullpayments"
CREATE_PULL_PAYMENTS = "btcpay.store.cancreatepullpayments"
VIEW_PULL_PAYMENTS = "btcpay.store.canviewpullpayments"
ARCHIVE_PULL_PAYMENTS = "btcpay.store.canarchivepullpayments"

# Further permissions that a permission includes.
INCLUDED = {
    MODIFY_INVOICES: (VIEW_INVOICES, CREATE_INVOICE),
    CREATE_PULL_PAYMENTS: (REFUND, VIEW_PULL_PAYMENTS),
    REFUND: (VIEW_PULL_PAYMENTS,),
}

# Exactly those that docs/operating/payments.md asks operators to grant.
PERMISSIONS = (CREATE_INVOICE, VIEW_INVOICES, REFUND, VIEW_PULL_PAYMENTS)


class Store(Simulated):
    """Everything that one API key can access."""

    def __init__(self, store_id: str, api_key: str) -> None:
        super().__init__()
        self.id = store_id
        self.api_key = api_key
        self.permissions: list[str] = list(PERMISSIONS)
        self.webhook: Webhook | None = None
        # Settings of the store and its server, which do not outlive the process.
        self.methods: list[str] = list(METHODS)
        self.default_method: str | None = None
        self.version = VERSION
        self.invoices: dict[str, Invoice] = {}
        self.pull_payments: dict[str, dict[str, Any]] = {}

    def may(self, permission: str) -> bool:
        """Whether the key has a permission, directly or included in another."""
        return any(
            permission == held or permission in INCLUDED.get(held, ()) for held in self.permissions
        )

    def invoice(self, invoice_id: str) -> Invoice:
        """Return an invoice. Raises ApiError (404) if it does not exist."""
        if invoice_id not in self.invoices:
            raise ApiError(404, "invoice-not-found", "The invoice was not found")
        return self.invoices[invoice_id]

    def pull_payment(self, pull_payment_id: str) -> dict[str, Any]:
        """Return a pull payment. Raises ApiError (404) if it does not exist."""
        if pull_payment_id not in self.pull_payments:
            raise ApiError(404, "pullpayment-not-found", "The pull payment was not found")
        return self.pull_payments[pull_payment_id]

    def emit(self, type: str, invoice: Invoice, **fields: Any) -> None:
        """Send an event to the webhook, if one is set and subscribes to the type."""
        self.changed()
        if self.webhook is not None and self.webhook.wants(type):
            assert self.sender is not None
            event = {"storeId": self.id, "invoiceId": invoice["id"]}
            event |= {"metadata": dict(invoice["metadata"]), **fields}
            self.sender.post(webhooks.message(type, event, self.webhook))

    def state(self) -> dict[str, Any]:
        return {
            "invoices": self.invoices,
            "pull_payments": self.pull_payments,
            "seconds": self.advanced_seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.invoices = state.get("invoices", {})
        self.pull_payments = state.get("pull_payments", {})
        self.advanced_seconds = state.get("seconds", 0)
        self.methods, self.default_method, self.version = list(METHODS), None, VERSION


def new_id(length: int = 22) -> str:
    """Return an id in base 58, like the server's."""
    return "".join(secrets.choice(BASE58) for _ in range(length))
