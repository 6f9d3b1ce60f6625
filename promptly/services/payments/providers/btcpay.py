"""Orders as BTCPay invoices, and invoices as snapshots."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from promptly import money
from promptly.clients.btcpay import BTCPayAPI
from promptly.clients.provider_errors import (
    ProviderNotFound,
    ProviderPending,
    ProviderRefused,
    ProviderUnavailable,
)
from promptly.clock import utcnow
from promptly.models.states import CaseKind
from promptly.services.payments import orders
from promptly.services.payments.providers import btcpay_money, btcpay_refund, btcpay_server
from promptly.services.payments.providers.base import (
    EXCEEDS,
    ListedRefund,
    OrderFacts,
    RefundFacts,
    RefundMade,
    Subject,
    moment,
)
from promptly.services.payments.snapshot import Checkout, ProviderSnapshot, Reversal
from promptly.services.payments.webhook_events import ReceivedEvent
from promptly.settings import Settings

# Short, because BTCPay fixes the price in Bitcoin when the invoice is created.
EXPIRES_MINUTES = 30
# How long a late payment is still noticed.
WATCHED_MINUTES = 24 * 60
# Of our metadata; the order's number is in BTCPay's own `orderId`.
INSTANCE_KEY = "promptlyInstance"

# A refund whose call was not answered may still be made for this long.
LATE_ANSWER = timedelta(minutes=5)

# The names of pull payments: ours have the order's number and our row, BTCPay's own the invoice.
_OUR_NAME = re.compile(r"Refund (P-\S+) ([0-9]{1,18})")
_OWN_NAME = re.compile(r"Refund (\w+)")

_DISCREPANCIES = {
    "PaidPartial": CaseKind.PAID_PARTIAL,
    "PaidLate": CaseKind.PAID_LATE,
    "PaidOver": CaseKind.PAID_OVER,
}
_OPEN = {"New": "open", "Processing": "processing"}


class BTCPayProvider:
    """A connection to BTCPay for one unit of work."""

    name = "btcpay"

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        self._api = BTCPayAPI(settings, timeout_seconds)
        self._store_id = settings.btcpay_store_id

    def close(self) -> None:
        self._api.close()

    def check(self) -> list[str]:
        """List one invoice, and read the server's version and the key's permissions."""
        self._api.check()
        return [
            *btcpay_server.advice_on_version(self._api.server_info()),
            *btcpay_server.advice_on_key(self._api.current_key(), self._store_id),
        ]

    def create(self, order: OrderFacts, return_url: str, email: str | None) -> Checkout:
        """Create an invoice for an order; every call creates another one.

        BTCPay's page asks for no address, so it gets none.
        """
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
                return self._whole(invoice, ())
        return None

    def fetch(self, checkout_id: str, refund_ids: Sequence[str] = ()) -> ProviderSnapshot:
        """Return the invoice with its confirmed payments, and the refunds named."""
        return self._whole(self._api.invoice(checkout_id), refund_ids)

    def _whole(self, invoice: dict[str, Any], refund_ids: Sequence[str]) -> ProviderSnapshot:
        snapshot = snapshot_of(invoice)
        seen = snapshot.paid_minor != 0
        methods = self._methods(invoice["id"]) if seen or refund_ids else []
        reversals = (self._refund(refund_id, snapshot, methods) for refund_id in refund_ids)
        received = btcpay_money.confirmed_minor(methods, snapshot.currency) if seen else 0
        return replace(
            snapshot,
            received_minor=received,
            due_satoshis=btcpay_money.due_satoshis(methods) if snapshot.status == "open" else None,
            discrepancy=snapshot.discrepancy or _kept(snapshot, received),
            reversals=tuple(found for found in reversals if found is not None),
        )

    def _methods(self, invoice_id: str) -> list[dict[str, Any]] | None:
        try:
            return self._api.payment_methods(invoice_id)
        except ProviderRefused:
            # An older server may not have this call; then no refund is made, but all else goes on.
            return None

    def _refund(
        self, refund_id: str, snapshot: ProviderSnapshot, methods: list[dict[str, Any]] | None
    ) -> Reversal | None:
        """Return a pull payment as it is now, or None if BTCPay does not know it."""
        try:
            pull_payment = self._api.pull_payment(refund_id)
            payouts = self._api.payouts(refund_id)
        except ProviderNotFound:
            return None
        state, part = btcpay_money.course(pull_payment, payouts)
        own = _OUR_NAME.fullmatch(str(pull_payment.get("name")))
        return Reversal(
            kind="refund",
            provider_id=refund_id,
            amount_minor=btcpay_money.minor(
                part, str(pull_payment.get("currency")), snapshot.currency, methods
            ),
            state=state,
            active=state != btcpay_money.ARCHIVED,
            own_id=int(own[2]) if own is not None else None,
            link=pull_payment.get("viewLink"),
        )

    def subject_of(self, event: ReceivedEvent) -> Subject:
        """Return the invoice, and the pull payment if the event is about a refund."""
        invoice_id, _, refund_id = (event.object_id or "").partition("/")
        return Subject(checkout_id=invoice_id, refund_ids=(refund_id,) if refund_id else ())

    def checkout_of(self, payment_id: str) -> str | None:
        """Return None: BTCPay's events name invoices, never payments."""
        return None

    def refund(self, order: OrderFacts, refund: RefundFacts) -> RefundMade:
        """Create a pull payment, unless an unanswered attempt has created it already."""
        if order.checkout_id is None:
            raise ProviderRefused("this order has no invoice")
        made = None
        if refund.response_pending:
            made = self._pull_payment(btcpay_refund.pull_payment_name(order, refund))
            if made is None and refund.requested_at > utcnow() - LATE_ANSWER:
                raise ProviderPending("an earlier attempt has not been answered")
        if made is None and refund.exceeds:
            raise ProviderRefused(EXCEEDS)
        if made is None:
            methods = self._methods(order.checkout_id) or []
            params = btcpay_refund.refund_params(order, refund, methods, self._version())
            made = self._api.refund_invoice(order.checkout_id, params)
        reversal = Reversal(
            kind="refund",
            provider_id=made["id"],
            amount_minor=refund.amount_minor,
            state="offered",
            active=True,
            own_id=refund.id,
            link=made.get("viewLink"),
        )
        return RefundMade(reversal)

    def _version(self) -> tuple[int, ...] | None:
        try:
            return btcpay_server.version_of(self._api.server_info())
        except ProviderRefused:
            return None

    def _pull_payment(self, name: str) -> dict[str, Any] | None:
        return next((item for item in self._api.pull_payments() if item.get("name") == name), None)

    def refunds(self) -> list[ListedRefund]:
        """Return the store's refunds that can be claimed, ours and those made in BTCPay's pages."""
        found = []
        for item in self._api.pull_payments():
            name = str(item.get("name"))
            if ours := _OUR_NAME.fullmatch(name):
                found.append(ListedRefund(item["id"], order_number=ours[1]))
            elif own := _OWN_NAME.fullmatch(name):
                found.append(ListedRefund(item["id"], checkout_id=own[1]))
        return found

    def listed(self, since: int, until: int, most: int) -> list[ProviderSnapshot]:
        """Return the store's invoices of a time."""
        invoices = self._api.invoices_between(since, until, most)
        return [snapshot_of(invoice) for invoice in invoices]

    def events(self, since: int, until: int, most: int) -> list[ReceivedEvent]:
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
            INSTANCE_KEY: order.instance_id,
        },
        "checkout": {
            "expirationMinutes": EXPIRES_MINUTES,
            "monitoringMinutes": WATCHED_MINUTES,
            "redirectURL": return_url,
            "redirectAutomatically": True,
        },
    }


def snapshot_of(invoice: dict[str, Any]) -> ProviderSnapshot:
    """Convert an invoice to a snapshot."""
    currency = str(invoice.get("currency") or "").upper()
    status, discrepancy = _status(invoice)
    metadata = invoice.get("metadata") or {}
    number, instance = metadata.get("orderId"), metadata.get(INSTANCE_KEY)
    return ProviderSnapshot(
        provider="btcpay",
        checkout_id=invoice["id"],
        # Another shop with the same BTCPay store has order ids too.
        order_number=number if isinstance(number, str) and orders.is_number(number) else None,
        livemode=True,
        status=status,
        provider_status=f"{invoice.get('status')}/{invoice.get('additionalStatus')}",
        amount_minor=_minor(invoice.get("amount"), currency),
        currency=currency,
        url=invoice.get("checkoutLink"),
        expires_at=moment(invoice.get("expirationTime")),
        paid_minor=_minor(invoice.get("paidAmount"), currency, rounded=True),
        discrepancy=discrepancy,
        instance_id=instance if isinstance(instance, str) else None,
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


def _kept(snapshot: ProviderSnapshot, received_minor: int | None) -> CaseKind | None:
    """Return the discrepancy of an invoice that was marked as invalid although money came."""
    if snapshot.status != "failed" or not received_minor:
        return None
    is_part = received_minor < (snapshot.amount_minor or 0)
    return CaseKind.PAID_PARTIAL if is_part else CaseKind.PAID_LATE


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
