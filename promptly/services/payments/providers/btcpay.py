"""Orders as BTCPay invoices, and what BTCPay says about them."""

from datetime import UTC, datetime
from typing import Any

from promptly import money
from promptly.clients.btcpay import BTCPayAPI
from promptly.clients.provider_errors import ProviderRefused, ProviderUnavailable
from promptly.services.payments.providers.base import OrderFacts, RefundFacts, RefundMade, Subject
from promptly.services.payments.snapshot import Checkout, ProviderSnapshot, Reversal
from promptly.services.payments.webhook_events import ReceivedEvent
from promptly.settings import Settings

# BTCPay computes the price in Bitcoin when the invoice is made: not for too long.
EXPIRES_MINUTES = 30
# How long a payment that came late is still noticed.
WATCHED_MINUTES = 24 * 60

_ODDITIES = {"PaidPartial": "paid_partial", "PaidLate": "paid_late", "PaidOver": "paid_over"}
_OPEN = {"New": "open", "Processing": "processing"}


class BTCPayProvider:
    """BTCPay, for one piece of work."""

    name = "btcpay"
    # It knows no idempotency keys.
    repeats_safely = False

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        self._api = BTCPayAPI(settings, timeout_seconds)

    def close(self) -> None:
        """Close the connection."""
        self._api.close()

    def check(self) -> None:
        """Ask for an invoice."""
        self._api.check()

    def create(self, order: OrderFacts, return_url: str) -> Checkout:
        """Make an invoice for an order; every call makes another one."""
        invoice = self._api.create_invoice(invoice_params(order, return_url))
        return Checkout(
            checkout_id=invoice["id"],
            url=invoice["checkoutLink"],
            livemode=True,
            expires_at=datetime.fromtimestamp(invoice["expirationTime"], UTC),
        )

    def find(self, order: OrderFacts) -> ProviderSnapshot | None:
        """The invoice of the order's last attempt."""
        for invoice in self._api.invoices_of(order.number):
            if (invoice.get("metadata") or {}).get("attempt") == order.attempt:
                return snapshot_of(invoice)
        return None

    def fetch(self, checkout_id: str) -> ProviderSnapshot:
        """The invoice; what was refunded is not in it, but on record here."""
        return snapshot_of(self._api.invoice(checkout_id))

    def subject_of(self, event: ReceivedEvent) -> Subject:
        """The invoice itself."""
        return Subject(checkout_id=event.object_id)

    def checkout_of(self, payment_id: str) -> str | None:
        """Nothing is known by its payment here."""
        return None

    def refund(self, order: OrderFacts, refund: RefundFacts) -> RefundMade:
        """Make a pull payment, unless an attempt without an answer has made it already."""
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
        """The invoices of our orders since a moment."""
        invoices = self._api.invoices_since(int(since.timestamp()), most)
        snapshots = (snapshot_of(invoice) for invoice in invoices)
        return [snapshot for snapshot in snapshots if snapshot.order_number is not None]

    def events(self, since: datetime, most: int) -> list[ReceivedEvent]:
        """BTCPay keeps no list of events."""
        return []


def invoice_params(order: OrderFacts, return_url: str) -> dict[str, Any]:
    """The invoice of an order."""
    return {
        # A text, never null: that would let any payment settle it.
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
    """A refund in the order's currency, at the rate of the day; a surplus as it came."""
    if refund.is_surplus:
        return {"refundVariant": "OverpaidAmount"}
    return {
        "refundVariant": "Custom",
        "customAmount": money.decimal_text(refund.amount_minor, order.currency),
        "customCurrency": order.currency,
    }


def snapshot_of(invoice: dict[str, Any]) -> ProviderSnapshot:
    """An invoice in the words that providers share."""
    currency = str(invoice.get("currency") or "").upper()
    status, discrepancy = _status(invoice)
    number = (invoice.get("metadata") or {}).get("orderId")
    return ProviderSnapshot(
        provider="btcpay",
        checkout_id=invoice["id"],
        # Another shop of the same store has order numbers too.
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


def _status(invoice: dict[str, Any]) -> tuple[str, str | None]:
    """The status, and the discrepancy.

    Only Settled counts as paid. Processing may fall back to New. What comes after the expiry
    leaves an invoice Expired. Invalid: what was seen was never confirmed, or the merchant says so.
    """
    status = invoice.get("status")
    additional = invoice.get("additionalStatus")
    discrepancy = _ODDITIES.get(str(additional))
    if status == "Settled":
        return "paid", "paid_over" if discrepancy == "paid_over" else None
    if status == "Expired":
        return "expired", discrepancy
    if status == "Invalid":
        return "failed", None if additional == "Marked" else "unconfirmed"
    if status in _OPEN:
        return _OPEN[status], None
    raise ProviderUnavailable(f"BTCPay has a status that is not known: {status}", answered=True)


def _minor(text: Any, currency: str, *, rounded: bool = False) -> int | None:
    """An amount in minor units; None for what is none. What was paid may be finer: cut off."""
    if not isinstance(text, str) or currency not in money.MINIMUM_CHARGE:
        return None
    whole, point, part = text.partition(".")
    if rounded and point:
        text = f"{whole}.{part[: money.decimals(currency)]}".rstrip(".")
    try:
        return money.parse_decimal(text, currency)
    except ValueError:
        return None
