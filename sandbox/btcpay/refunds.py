"""Refunds: a pull payment is a promise that moves money once it is claimed and paid out."""

from decimal import Decimal
from typing import Any

from sandbox.btcpay import accounting
from sandbox.btcpay.accounting import CENT, SATOSHI, Invoice
from sandbox.btcpay.errors import ApiError, Invalid
from sandbox.btcpay.store import (
    CREATE_PULL_PAYMENTS,
    LIGHTNING,
    LNURL,
    ON_CHAIN,
    Store,
    new_id,
)
from sandbox.provider.control import Refused

PullPayment = dict[str, Any]

# Where the customer wants the money, by payout method.
DESTINATIONS = {ON_CHAIN: "bcrt1qcustomer", LIGHTNING: "lnbcrt1customer"}

LATE = ("PaidLate", "PaidOver", "PaidPartial")


def refund(store: Store, invoice_id: str, asked: dict[str, Any]) -> PullPayment:
    """Create a pull payment that promises money back for an invoice.

    Raises ApiError if the invoice's state does not allow it, Invalid for wrong fields.
    """
    invoice = store.invoice(invoice_id)
    status, additional = invoice["status"], invoice["additional"]
    if status not in ("Settled", "Invalid") and not (status == "Expired" and additional in LATE):
        raise ApiError(400, "non-refundable", "Cannot refund this invoice")
    methods = _methods(store, invoice, asked["payoutMethods"])
    amount, currency = _amount(invoice, asked)
    subtracted = Decimal(asked["subtractPercentage"] or 0)
    if not 0 <= subtracted <= 100:
        raise Invalid([("subtractPercentage", "Percentage must be between 0 and 100")])
    digits = SATOSHI if currency == "BTC" else CENT
    amount = (amount * (100 - subtracted) / 100).quantize(digits)
    found: PullPayment = {
        "id": new_id(27),
        "invoice": invoice_id,
        "name": asked["name"] or f"Refund {invoice_id}",
        "description": asked["description"] or "",
        "currency": currency,
        "amount": accounting.text(amount),
        "bitcoin": _bitcoin(invoice, amount, currency),
        "methods": methods,
        "method": None,
        # A claim in bitcoin needs no further approval if the key has that permission.
        "auto": currency == "BTC" and store.may(CREATE_PULL_PAYMENTS),
        "archived": False,
        "created": store.now(),
        "claimed": None,
        "claimed_at": None,
        "destination": None,
    }
    store.pull_payments[found["id"]] = found
    store.emit("InvoiceRefund", invoice, pullPaymentId=found["id"])
    return found


def claim(store: Store, pull_payment_id: str, destination: str = "") -> PullPayment:
    """Claim all of a pull payment as the customer; without a destination, by its first method.

    Raises Refused if it is archived or already claimed, or cannot be paid out to the destination.
    """
    found = store.pull_payment(pull_payment_id)
    if found["archived"] or found["claimed"] is not None:
        raise Refused("this pull payment is archived or was claimed")
    destination = destination or DESTINATIONS[found["methods"][0]]
    lightning = destination.lower().startswith("ln") or "@" in destination
    method = LIGHTNING if lightning else ON_CHAIN
    if method not in found["methods"]:
        raise Refused(f"it is paid out by {' or '.join(found['methods'])} only")
    found |= {
        "method": method,
        "claimed": "AwaitingPayment" if found["auto"] else "AwaitingApproval",
        "claimed_at": store.now(),
        "destination": destination,
    }
    return found


def pay_out(store: Store, pull_payment_id: str) -> PullPayment:
    """Pay out a claim. Raises Refused if none is waiting."""
    found = store.pull_payment(pull_payment_id)
    if found["claimed"] not in ("AwaitingPayment", "AwaitingApproval"):
        raise Refused("nothing of this pull payment waits to be paid out")
    found["claimed"] = "Completed"
    return found


def archive(store: Store, pull_payment_id: str) -> PullPayment:
    """Withdraw the promise; a claim that is not paid out yet is cancelled."""
    found = store.pull_payment(pull_payment_id)
    found["archived"] = True
    if found["claimed"] in ("AwaitingPayment", "AwaitingApproval"):
        found["claimed"] = "Cancelled"
    return found


def of_invoice(store: Store, invoice_id: str) -> list[str]:
    """Return the ids of an invoice's pull payments, oldest first, also of those withdrawn."""
    return [item["id"] for item in store.pull_payments.values() if item["invoice"] == invoice_id]


def truth(store: Store) -> list[dict[str, Any]]:
    """Return the money that the store holds for each invoice, oldest first, in cents.

    ``paid`` is everything seen, ``settled`` the confirmed part; ``held`` is ``settled`` less
    ``refunded``; ``promised`` is the part of it in refunds that are not paid out yet.
    """
    found = []
    for invoice in store.invoices.values():
        account = accounting.account(invoice)
        mine = [item for item in store.pull_payments.values() if item["invoice"] == invoice["id"]]
        paid_out = [item for item in mine if item["claimed"] == "Completed"]
        open_ones = [
            item for item in mine if item["claimed"] != "Completed" and not item["archived"]
        ]
        settled = accounting.in_currency(invoice, account.confirmed)
        refunded = _sum(invoice, paid_out)
        found.append(
            {
                "invoice_id": invoice["id"],
                "order_id": invoice["metadata"].get("orderId"),
                "status": invoice["status"],
                "additional_status": invoice["additional"],
                "currency": invoice["currency"],
                "amount": accounting.minor(Decimal(invoice["amount"] or 0)),
                "paid": accounting.minor(accounting.in_currency(invoice, account.paid)),
                "settled": accounting.minor(settled),
                "refunded": accounting.minor(refunded),
                "promised": accounting.minor(_sum(invoice, open_ones)),
                "held": accounting.minor(settled - refunded),
            }
        )
    return found


def _methods(store: Store, invoice: Invoice, asked: list[str] | None) -> list[str]:
    """Return the payout methods of a refund. Raises Invalid for others than the invoice's.

    Without any, it is the invoice's default payment method, even one that cannot be paid out.
    """
    own = invoice["checkout"]["paymentMethods"]
    default = invoice["checkout"]["defaultPaymentMethod"] or store.default_method
    if default is None:
        default = next((name for name in (ON_CHAIN, LNURL) if name in own), own[0])
    found = asked or [default]
    payable = {LIGHTNING if name == LNURL else name for name in own}
    if not set(found) <= payable:
        message = (
            "Please select one of the payment methods which were available for the original invoice"
        )
        raise Invalid([("payoutMethods", message)])
    return found


def _sum(invoice: Invoice, pull_payments: list[PullPayment]) -> Decimal:
    bitcoin = sum((Decimal(item["bitcoin"]) for item in pull_payments), Decimal(0))
    return accounting.in_currency(invoice, bitcoin)


def _bitcoin(invoice: Invoice, amount: Decimal, currency: str) -> str:
    if currency != "BTC":
        amount = (amount / accounting.RATES[currency]).quantize(SATOSHI)
    return accounting.text(amount)


def _amount(invoice: Invoice, asked: dict[str, Any]) -> tuple[Decimal, str]:
    """Return the amount to promise and its currency."""
    variant = asked["refundVariant"]
    account = accounting.account(invoice)
    paid = account.paid
    if not paid and invoice["status"] == "Settled":
        paid = account.total or Decimal(0)  # marked manually: counts as paid in full
    if variant is None:
        raise Invalid([("refundVariant", "`refundVariant` is mandatory")])
    custom = [name for name in ("customAmount", "customCurrency") if asked[name] is not None]
    if variant != "Custom" and custom:
        raise Invalid([(name, "Only for the refundVariant Custom") for name in custom])
    if variant in ("RateThen", "CurrentRate"):
        return paid, "BTC"
    if variant == "Fiat":
        return accounting.in_currency(invoice, paid), invoice["currency"]
    if variant == "OverpaidAmount":
        if invoice["additional"] != "PaidOver":
            raise Invalid([("refundVariant", "Invoice is not overpaid")])
        return -account.due, "BTC"
    return _custom(asked)


def _custom(asked: dict[str, Any]) -> tuple[Decimal, str]:
    amount, currency = Decimal(asked["customAmount"] or 0), asked["customCurrency"]
    if amount <= 0:
        raise Invalid([("customAmount", "Amount must be greater than 0")])
    if currency not in accounting.RATES:
        raise Invalid([("customCurrency", "Invalid currency")])
    return amount, currency
