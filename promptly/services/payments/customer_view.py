"""Purchases as an account sees them: its orders, and what is explained about their state."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from promptly import labels, money
from promptly.clock import utcnow
from promptly.models import Order
from promptly.models.states import OrderState
from promptly.services.ledger.balances import iso
from promptly.services.paging import Page
from promptly.services.payments import cases, orders, part_payments
from promptly.services.payments.part_payments import PartPayment

WAYS = {"stripe": "card", "btcpay": "Bitcoin"}

# Cases that the customer's page explains; the others concern only the operator.
_EXPLAINED = frozenset({"paid_partial", "paid_late", "unconfirmed"})


@dataclass(frozen=True)
class Purchase:
    """One order, without the fields that concern only the operator."""

    number: str
    created_at: str
    pack: str
    tokens: int
    price: str
    method: str
    state: str
    label: str
    credited: bool
    tokens_taken: int
    tokens_owed: int
    refunded: str | None
    arrived: str | None
    part: PartPayment | None
    expires_at: str
    checkout_url: str | None

    @property
    def way(self) -> str:
        """The way to pay, in a word."""
        return WAYS[self.method]

    @classmethod
    def of(cls, order: Order) -> "Purchase":
        """Build the view of a row."""
        refunded = order.refunded_minor
        part = part_payments.of(order)
        is_payable = order.state == OrderState.OPEN and order.expires_at > utcnow()
        return cls(
            number=order.number,
            created_at=_shown(order.created_at),
            pack=order.pack,
            tokens=order.tokens,
            price=money.shown(order.amount_minor + order.credited_surplus_minor, order.currency),
            method=order.provider,
            state=order.state,
            label=labels.PARTLY_PAID if part else labels.plain(labels.ORDERS, order.state),
            credited=order.credited_at is not None,
            tokens_taken=order.tokens_taken,
            tokens_owed=order.tokens_owed,
            refunded=money.shown(refunded, order.paid_in) if refunded else None,
            arrived=part_payments.arrived(order),
            part=part,
            expires_at=_shown(order.expires_at),
            checkout_url=order.checkout_url if is_payable else None,
        )


def history(user_id: int, limit: int, before: str | None = None) -> Page[Purchase]:
    """Return a page of an account's purchases, newest first, from the start or after `before`.

    Raises NotFound if `before` is not the number of a purchase of this account.
    """
    return orders.history(user_id, limit, before).map(Purchase.of)


def situation(order: Order, *, canceled: bool = False) -> dict[str, Any]:
    """Return what the owner's page explains about an order.

    `about` is the order's state, or canceled (the customer left the page, which is still open),
    underpaid (a part came, and the page is still open), overdue (its time has just run out),
    paid_partial, paid_late, unconfirmed (an operator decides), dismissed (they have decided:
    nothing is credited). `surplus`: more than the price came, and that is not decided yet.
    """
    found = cases.cases_of(order.id)
    waiting = [case.kind for case in found if case.resolution is None]
    about: str = order.state
    if order.state == "attention":
        about = next((kind for kind in reversed(waiting) if kind in _EXPLAINED), about)
    elif order.state in {"expired", "failed"}:
        if any(case.resolution == cases.DISMISS for case in found):
            about = "dismissed"
    elif order.state == "open":
        about = _of_open_page(order, canceled=canceled)
    return {"about": about, "surplus": "paid_over" in waiting}


def _of_open_page(order: Order, *, canceled: bool) -> str:
    if order.expires_at <= utcnow():
        return "overdue"
    if part_payments.of(order) is not None:
        return "underpaid"
    return "canceled" if canceled else "open"


def _shown(moment: datetime) -> str:
    return iso(moment) or ""
