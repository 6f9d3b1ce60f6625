"""Receipts of credited purchases, as mailed and as printed.

A receipt's number is the purchase's: unique, but not consecutive, so it discloses no sales. The
seller is the one of the time of the order.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from promptly import money
from promptly.errors import NotFound
from promptly.models import Order, PaymentReversal
from promptly.services.payments import credit, funds, refunds, reversals
from promptly.services.payments.funds import Funds
from promptly.settings import Settings

Seller = dict[str, Any]

_REFUNDED = frozenset({"succeeded", refunds.BY_HAND})


@dataclass(frozen=True)
class Returned:
    """Money of a purchase that went back, or is on its way."""

    on: str
    label: str
    amount: str


@dataclass(frozen=True)
class Receipt:
    """A credited purchase. Amounts are for display; `tax` and `received` only if they say more.

    `kept` is what the seller has kept of the money, after everything that went back.
    """

    number: str
    paid_on: str
    seller: Seller | None
    customer: str
    pack: str
    tokens: int
    price: str
    tax: str | None
    received: str | None
    provider: str
    test_mode: bool
    returned: tuple[Returned, ...]
    kept: str


def of(order: Order, customer: str, settings: Settings) -> Receipt:
    """Return an order's receipt for the customer with this address.

    Raises NotFound for an order that is not credited.
    """
    if order.credited_at is None:
        raise NotFound("This purchase has no receipt: it has not been credited.")
    rows = [row for row in reversals.of_order(order.id) if _counts(row)]
    money_of = Funds.of(order, rows)
    fields = credit.receipt_of(order)
    return Receipt(
        number=order.number,
        paid_on=fields["paid_on"],
        seller=order.seller or settings.seller,
        customer=customer,
        pack=order.pack,
        tokens=order.tokens,
        price=fields["price"],
        tax=fields["tax"],
        received=fields["received"],
        provider=order.provider,
        test_mode=fields["test_mode"],
        returned=tuple(_returned(order, row) for row in rows),
        kept=money.shown(money_of.left_minor, order.paid_in),
    )


def _counts(row: PaymentReversal) -> bool:
    return row.active and row.state != funds.REQUESTED


def _returned(order: Order, row: PaymentReversal) -> Returned:
    moment: datetime = row.created_at
    amount = money.shown(row.amount_minor, order.paid_in)
    return Returned(f"{moment:%Y-%m-%d}", _label(row), amount)


def _label(row: PaymentReversal) -> str:
    if row.kind == "invalidation":
        return "Payment reversed"
    if row.kind == "dispute":
        return "Charged back" if row.state == reversals.LOST else "Disputed"
    if row.state in _REFUNDED:
        return "Refunded"
    return "Refund offered" if row.state == "offered" else "Refund on its way"
