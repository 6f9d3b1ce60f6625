"""Purchases as an account sees them: offers and ways to pay, its orders, and their state."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from promptly import labels, money
from promptly.models import Order
from promptly.packs import Pack
from promptly.services.ledger.balances import iso
from promptly.services.paging import Page
from promptly.services.payments import cases, orders
from promptly.services.payments.providers import registry
from promptly.settings import Settings

WAYS = {"stripe": "card", "btcpay": "Bitcoin"}

# Cases that the customer's page explains; the others concern only the operator.
_EXPLAINED = frozenset({"paid_partial", "paid_late", "unconfirmed"})


@dataclass(frozen=True)
class Offer:
    """A pack and the providers where it can be paid."""

    name: str
    tokens: int
    price: str
    methods: tuple[str, ...]


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
        return cls(
            number=order.number,
            created_at=_shown(order.created_at),
            pack=order.pack,
            tokens=order.tokens,
            price=money.shown(order.amount_minor + order.credited_surplus_minor, order.currency),
            method=order.provider,
            state=order.state,
            label=labels.plain(labels.ORDERS, order.state),
            credited=order.credited_at is not None,
            tokens_taken=order.tokens_taken,
            tokens_owed=order.tokens_owed,
            refunded=money.shown(refunded, order.paid_in) if refunded else None,
            expires_at=_shown(order.expires_at),
            checkout_url=order.checkout_url if order.state == "open" else None,
        )


def offers(settings: Settings) -> list[Offer]:
    """Return the packs, each with the configured providers that accept a price as small."""
    currency = settings.packs_currency
    return [
        Offer(pack.name, pack.tokens, pack.price(currency), methods_for(pack, settings))
        for pack in settings.packs
    ]


def methods_for(pack: Pack, settings: Settings) -> tuple[str, ...]:
    """Return the providers where a pack can be paid."""
    minimum = {"stripe": money.MINIMUM_CHARGE[settings.packs_currency]}
    return tuple(
        name for name in registry.offered(settings) if pack.amount_minor >= minimum.get(name, 0)
    )


def history(user_id: int, limit: int, before: str | None = None) -> Page[Purchase]:
    """Return a page of an account's purchases, newest first, from the start or after `before`.

    Raises NotFound if `before` is not the number of a purchase of this account.
    """
    return orders.history(user_id, limit, before).map(Purchase.of)


def situation(order: Order, *, canceled: bool = False) -> dict[str, Any]:
    """Return what the owner's page explains about an order.

    `about` is the order's state, or canceled (the customer left the page, which is still open),
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
    elif order.state == "open" and canceled:
        about = "canceled"
    return {"about": about, "surplus": "paid_over" in waiting}


def _shown(moment: datetime) -> str:
    return iso(moment) or ""
