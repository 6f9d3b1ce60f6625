"""Orders as BTCPay invoices, and invoices as snapshots."""

from datetime import UTC, datetime
from typing import Any

from promptly import money
from promptly.clients.btcpay import BTCPayAPI
from promptly.clients.provider_errors import ProviderRefused, ProviderUnavailable
from promptly.models.states import CaseKind
from promptly.services.payments.providers.base import OrderFacts, RefundFacts, RefundMade, Subject
from promptly.services.payments.snapshot import Checkout, ProviderSnapshot, Reversal
from promptly.services.payments.webhook_events import ReceivedEvent
from promptly.settings import Settings

# Short, because BTCPay fixes the price in Bitcoin when the invoice is created.
EXPIRES_MINUTES = 30
# How long a late payment is still noticed.
WATCHED_MINUTES = 24 * 60

_DISCREPANCIES = {
    "PaidPartial": CaseKind.PAID_PARTIAL,
    "PaidLate": CaseKind.PAID_LATE,
    "PaidOver": CaseKind.PAID_OVER,
}
_OPEN = {"New": "open", "Processing": "processing"}


class BTCPayProvider:
    """A connection to BTCPay for one unit of work."""

    name = "btcpay"
    # BTCPay has no idempotency keys.
    repeats_safely = False

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        self._api = BTCPayAPI(settings, timeout_seconds)

    def close(self) -> None:
        self._api.close()

    def check(self) -> None:
        """List one invoice."""
        self._api.check()

    def create(self, order: OrderFacts, return_url: str) -> Checkout:
        """Create an invoice for an order; every call creates another one."""
        invoice = self._api.create_invoice(invoice_params(order, return_url))
        return Checkout(
            checkout_id=invoice["id"],
            url=invoice["checkoutLink"],
            livemode=True,
            expires_at=datetime.fromtimestamp(invoice["expirationTime"], UTC),
        )

    def find(self, order: OrderFacts) -> ProviderSnapshot | None:
        """Return the invoice of the order's last attempt."""
        for invoice in self._api.invoices_of(order.number):
            if (invoice.get("metadata") or {}).get("attempt") == order.attempt:
                return snapshot_of(invoice)
        return None

    def fetch(self, checkout_id: str) -> ProviderSnapshot:
        """Return the invoice; its refunds are not in it, but in our database."""
        return snapshot_of(self._api.invoice(checkout_id))

    def subject_of(self, event: ReceivedEvent) -> Subject:
        """Return the invoice: BTCPay's events are about nothing else."""
        return Subject(checkout_id=event.object_id)

    def checkout_of(self, payment_id: str) -> str | None:
        """Return None: BTCPay's events name invoices, never payments."""
        return None

    def refund(self, order: OrderFacts, refund: RefundFacts) -> RefundMade:
        """Create a pull payment, unless an unanswered attempt has created it already."""
        if order.checkout_id is None:
            raise ProviderRefused("this order has no invoice")
        name = f"Refund {order.number} {refund.id}"
        made = self._pull_payment(name) if refund.response_pending else None
        if made is None:
            params = refund_params(order, refund) | {"name": name}
            made = self._api.refund_invoice(order.checkout_id, params)
        reversal = Reversal(
            kind="refund",
            provider_id=made["id"],
            amount_minor=refund.amount_minor,
            state="offered",
            active=True,
            own_id=refund.id,
        )
        return RefundMade(reversal, link=made.get("viewLink"))

    def _pull_payment(self, name: str) -> dict[str, Any] | None:
        return next((item for item in self._api.pull_payments() if item.get("name") == name), None)

    def listed(self, since: datetime, most: int) -> list[ProviderSnapshot]:
        """Return the store's invoices since a moment."""
        invoices = self._api.invoices_since(int(since.timestamp()), most)
        return [snapshot_of(invoice) for invoice in invoices]

    def events(self, since: datetime, most: int) -> list[ReceivedEvent]:
        """Return nothing: BTCPay keeps no list of events."""
        return []


def invoice_params(order: OrderFacts, return_url: str) -> dict[str, Any]:
    """Return the parameters of an order's invoice."""
    return {
        # A string, never null: with null, any payment would settle the invoice.
        "amount": money.decimal_text(order.amount_minor, order.currency),
        "currency": order.currency,
        "metadata": {
            "orderId": order.number,
            "itemDesc": f"{order.pack}: {order.tokens:,} tokens",
            "attempt": order.attempt,
        },
        "checkout": {
            "expirationMinutes": EXPIRES_MINUTES,
            "monitoringMinutes": WATCHED_MINUTES,
            "redirectURL": return_url,
            "redirectAutomatically": True,
        },
    }


def refund_params(order: OrderFacts, refund: RefundFacts) -> dict[str, Any]:
    """Return a refund's parameters: order's currency at the day's rate; a surplus as it came."""
    if refund.is_surplus:
        return {"refundVariant": "OverpaidAmount"}
    return {
        "refundVariant": "Custom",
        "customAmount": money.decimal_text(refund.amount_minor, order.currency),
        "customCurrency": order.currency,
    }


def snapshot_of(invoice: dict[str, Any]) -> ProviderSnapshot:
    """Convert an invoice to a snapshot."""
    currency = str(invoice.get("currency") or "").upper()
    status, discrepancy = _status(invoice)
    number = (invoice.get("metadata") or {}).get("orderId")
    return ProviderSnapshot(
        provider="btcpay",
        checkout_id=invoice["id"],
        # Another shop with the same BTCPay store has order ids too.
        order_number=number if isinstance(number, str) and number.startswith("P-") else None,
        livemode=True,
        status=status,
        provider_status=f"{invoice.get('status')}/{invoice.get('additionalStatus')}",
        amount_minor=_minor(invoice.get("amount"), currency),
        currency=currency,
        url=invoice.get("checkoutLink"),
        paid_minor=_minor(invoice.get("paidAmount"), currency, rounded=True),
        discrepancy=discrepancy,
        reversals=(),
    )


def _status(invoice: dict[str, Any]) -> tuple[str, CaseKind | None]:
    """Return an invoice's status and discrepancy.

    Only Settled counts as paid. Processing may fall back to New. A payment after the expiry leaves
    an invoice Expired. Invalid: the payment was never confirmed, or the merchant marked it so.
    """
    status = invoice.get("status")
    additional = invoice.get("additionalStatus")
    discrepancy = _DISCREPANCIES.get(str(additional))
    if status == "Settled":
        return "paid", discrepancy if discrepancy == CaseKind.PAID_OVER else None
    if status == "Expired":
        return "expired", discrepancy
    if status == "Invalid":
        return "failed", None if additional == "Marked" else CaseKind.UNCONFIRMED
    if status in _OPEN:
        return _OPEN[status], None
    raise ProviderUnavailable(f"BTCPay has a status that is not known: {status}", answered=True)


def _minor(text: Any, currency: str, *, rounded: bool = False) -> int | None:
    """Return an amount in minor units, or None if invalid; `rounded` cuts off finer decimals."""
    if not isinstance(text, str) or currency not in money.MINIMUM_CHARGE:
        return None
    whole, point, part = text.partition(".")
    if rounded and point:
        text = f"{whole}.{part[: money.decimals(currency)]}".rstrip(".")
    try:
        return money.parse_decimal(text, currency)
    except ValueError:
        return None
