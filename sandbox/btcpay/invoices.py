"""The life of an invoice: created, paid, confirmed, expired, marked manually.

``update`` applies its checks in the order of the server's own watcher.
"""

from decimal import Decimal
from typing import Any

from sandbox.btcpay import accounting, answers
from sandbox.btcpay.accounting import SATOSHI, Invoice
from sandbox.btcpay.errors import Invalid
from sandbox.btcpay.store import LIGHTNING, ON_CHAIN, Store, new_id
from sandbox.provider.control import Refused

# The store's defaults for options that an invoice does not set, besides its payment methods.
DEFAULTS: dict[str, Any] = {
    "speedPolicy": "MediumSpeed",
    "defaultPaymentMethod": None,
    "lazyPaymentMethods": None,
    "expirationMinutes": 15,
    "monitoringMinutes": 1440,
    "paymentTolerance": 0.0,
    "redirectURL": None,
    "redirectAutomatically": False,
    "defaultLanguage": None,
}


def create(store: Store, asked: dict[str, Any]) -> Invoice:
    """Create an invoice from a validated request."""
    given = {name: value for name, value in asked["checkout"].items() if value is not None}
    checkout = DEFAULTS | {"paymentMethods": list(store.methods)} | given
    now = store.now()
    expires = now + int(checkout["expirationMinutes"] * 60)
    currency = asked["currency"] or "USD"
    invoice: Invoice = {
        "id": new_id(),
        "amount": asked["amount"],
        "currency": currency,
        "metadata": asked["metadata"],
        "checkout": checkout,
        "created": now,
        "expires": expires,
        "monitored": expires + int(checkout["monitoringMinutes"] * 60),
        "status": "New",
        "additional": "None",
        "rate": str(accounting.RATES[currency]),
        "payments": [],
        "address": f"bcrt1q{new_id(38).lower()}",
        "bolt11": f"lnbcrt{new_id(60).lower()}",
    }
    store.invoices[invoice["id"]] = invoice
    store.emit("InvoiceCreated", invoice)
    return invoice


def pay(store: Store, invoice_id: str, *, share: str = "1", method: str = LIGHTNING) -> Invoice:
    """Pay a share of the invoice's amount, like "0.5"; Lightning, also by LNURL, settles at once.

    Raises Refused where the server would not see the payment, or for an unknown method.
    """
    invoice = store.invoice(invoice_id)
    if method not in invoice["checkout"]["paymentMethods"]:
        raise Refused(f"method must be one of {', '.join(invoice['checkout']['paymentMethods'])}")
    lightning = method != ON_CHAIN
    if lightning and invoice["status"] != "New":
        raise Refused(f"the invoice is {invoice['status']}: Lightning takes no payment")
    if store.now() >= invoice["monitored"]:
        raise Refused("the invoice is no longer monitored")
    total = accounting.account(invoice).total
    value = ((Decimal("0.00002") if total is None else total) * Decimal(share)).quantize(SATOSHI)
    at_once = lightning or invoice["checkout"]["speedPolicy"] == "HighSpeed"
    payment = {
        "id": f"{new_id(40)}-0",
        "method": method,
        "value": str(value),
        "received": store.now(),
        "status": "Processing",
        "destination": invoice["bolt11"] if lightning else invoice["address"],
    }
    invoice["payments"].append(payment)
    _tell(store, "InvoiceReceivedPayment", invoice, payment)
    if at_once:
        _settle(store, invoice, payment)
    update(store, invoice)
    return invoice


def confirm(store: Store, invoice_id: str) -> Invoice:
    """Let a block confirm the waiting payments. Raises Refused if there are none."""
    invoice = store.invoice(invoice_id)
    waiting = [item for item in invoice["payments"] if item["status"] == "Processing"]
    if not waiting:
        raise Refused("no payment of this invoice is waiting for a block")
    for payment in waiting:
        _settle(store, invoice, payment)
    update(store, invoice)
    return invoice


def confirm_overdue(store: Store, after_seconds: float) -> None:
    """Confirm every invoice with a payment that has waited for ``after_seconds``."""
    for invoice in store.invoices.values():
        if any(
            item["status"] == "Processing" and item["received"] + after_seconds <= store.now()
            for item in invoice["payments"]
        ):
            confirm(store, invoice["id"])


def replace(store: Store, invoice_id: str) -> Invoice:
    """Let the customer replace unconfirmed payments (replace-by-fee), which makes them Invalid.

    Raises Refused if there are none.
    """
    invoice = store.invoice(invoice_id)
    waiting = [item for item in invoice["payments"] if item["status"] == "Processing"]
    if not waiting:
        raise Refused("every payment of this invoice is confirmed")
    for payment in waiting:
        payment["status"] = "Invalid"
    update(store, invoice)
    return invoice


def mark(store: Store, invoice_id: str, status: str) -> Invoice:
    """Mark an invoice manually as Settled or Invalid.

    Raises Invalid where the server does not allow it.
    """
    invoice = store.invoice(invoice_id)
    if status not in markable(invoice):
        raise Invalid([("status", f"An invoice that is {invoice['status']} cannot be so marked.")])
    invoice |= {"status": status, "additional": "Marked"}
    over = {"overPaid": False} if status == "Settled" else {}
    store.emit(f"Invoice{status}", invoice, manuallyMarked=True, **over)
    return invoice


def markable(invoice: Invoice) -> list[str]:
    """Return the statuses an invoice can be marked with; one that settled by itself stays so."""
    status, by_hand = invoice["status"], invoice["additional"] == "Marked"
    found = []
    if status != "Settled":
        found.append("Settled")
    if status in ("New", "Processing", "Expired") or (by_hand and status != "Invalid"):
        found.append("Invalid")
    return found


def update(store: Store, invoice: Invoice) -> None:
    """Update an invoice from its payments and the clock until nothing changes any more."""
    while _step(store, invoice):
        pass


def _step(store: Store, invoice: Invoice) -> bool:
    before = (invoice["status"], invoice["additional"])
    account = accounting.account(invoice)
    if invoice["status"] == "New" and invoice["expires"] <= store.now():
        invoice["status"] = "Expired"
        partial = account.paid > 0 and not account.is_paid
        store.emit("InvoiceExpired", invoice, partiallyPaid=partial)
        if partial:
            store.emit("InvoiceExpiredPaidPartial", invoice)
    if invoice["status"] in ("New", "Expired"):
        _follow_payments(store, invoice, account)
    if invoice["status"] == "Processing":
        _follow_confirmations(store, invoice, account)
    return (invoice["status"], invoice["additional"]) != before


def _follow_payments(store: Store, invoice: Invoice, account: accounting.Account) -> None:
    if account.is_paid and invoice["status"] == "New":
        over = account.is_over
        invoice |= {"status": "Processing", "additional": "PaidOver" if over else "None"}
        store.emit("InvoiceProcessing", invoice, overPaid=over)
    elif account.is_paid and invoice["additional"] != "PaidLate":
        # It stays expired: people have to decide whether to accept the money.
        invoice["additional"] = "PaidLate"
        store.emit("InvoicePaidAfterExpiration", invoice)
    elif not account.is_paid and account.paid > 0:
        invoice["additional"] = "PaidPartial"


def _follow_confirmations(store: Store, invoice: Invoice, account: accounting.Account) -> None:
    if not account.is_paid:
        invoice |= {"status": "New", "additional": "PaidPartial" if account.paid else "None"}
        return
    invoice["additional"] = "PaidOver" if account.is_over else "None"
    if account.is_confirmed:
        invoice["status"] = "Settled"
        if invoice["amount"] is None:
            paid = accounting.in_currency(invoice, account.paid)
            invoice |= {"amount": accounting.text(paid), "top_up": True}
        store.emit("InvoiceSettled", invoice, manuallyMarked=False, overPaid=account.is_over)
    elif invoice["monitored"] <= store.now():
        invoice["status"] = "Invalid"
        store.emit("InvoiceInvalid", invoice, manuallyMarked=False)


def _settle(store: Store, invoice: Invoice, payment: dict[str, Any]) -> None:
    payment["status"] = "Settled"
    _tell(store, "InvoicePaymentSettled", invoice, payment)


def _tell(store: Store, type: str, invoice: Invoice, payment: dict[str, Any]) -> None:
    store.emit(
        type,
        invoice,
        afterExpiration=invoice["status"] in ("Expired", "Invalid"),
        paymentMethodId=payment["method"],
        payment=answers.payment(payment),
    )
