"""What an account sees of purchases: what is for sale and how, what it bought, what came of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from promptly import money
from promptly.models import Order
from promptly.packs import Pack
from promptly.services.ledger.balances import iso
from promptly.services.payments import cases, orders
from promptly.services.payments.providers import registry
from promptly.settings import Settings

WAYS = {"stripe": "card", "btcpay": "Bitcoin"}

# An order's state in plain words, for a list.
LABELS = {
    "created": "not started",
    "open": "waiting for payment",
    "processing": "payment on its way",
    "attention": "with the operator",
    "expired": "expired",
    "failed": "failed",
    "paid": "paid",
    "partly_refunded": "partly refunded",
    "refunded": "refunded",
    "disputed": "disputed",
    "charged_back": "charged back",
    "invalid": "payment withdrawn",
}

# Cases that a customer can be told about; the others are the operator's own trouble.
_TOLD = frozenset({"paid_partial", "paid_late", "unconfirmed"})


@dataclass(frozen=True)
class Offer:
    """A pack and the providers it can be paid at."""

    name: str
    tokens: int
    price: str
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Purchase:
    """One order, without what is nobody's business but the operator's."""

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
        """How it is paid, in a word."""
        return WAYS[self.method]

    @classmethod
    def of(cls, order: Order) -> "Purchase":
        """What is shown of a row."""
        refunded = order.refunded_minor
        return cls(
            number=order.number,
            created_at=_shown(order.created_at),
            pack=order.pack,
            tokens=order.tokens,
            price=money.shown(order.amount_minor, order.currency),
            method=order.provider,
            state=order.state,
            label=LABELS[order.state],
            credited=order.credited_at is not None,
            tokens_taken=order.tokens_taken,
            tokens_owed=order.tokens_owed,
            refunded=money.shown(refunded, order.currency) if refunded else None,
            expires_at=_shown(order.expires_at),
            checkout_url=order.checkout_url if order.state == "open" else None,
        )


def offers(settings: Settings) -> list[Offer]:
    """The packs, each with the configured providers that take a price as small as its own."""
    currency = settings.packs_currency
    return [
        Offer(pack.name, pack.tokens, pack.price(currency), methods_for(pack, settings))
        for pack in settings.packs
    ]


def methods_for(pack: Pack, settings: Settings) -> tuple[str, ...]:
    """The providers at which a pack can be paid."""
    minimum = {"stripe": money.MINIMUM_CHARGE[settings.packs_currency]}
    return tuple(
        name for name in registry.offered(settings) if pack.amount_minor >= minimum.get(name, 0)
    )


def history(
    user_id: int, limit: int, before: str | None = None
) -> tuple[list[Purchase], str | None]:
    """An account's purchases, newest first, and the number to go on `before`, if there are more.

    Raises NotFound if `before` is no purchase of this account.
    """
    found = orders.history(user_id, limit + 1, before)
    shown = [Purchase.of(order) for order in found[:limit]]
    return shown, shown[-1].number if len(found) > limit else None


def situation(order: Order, *, canceled: bool = False) -> dict[str, Any]:
    """What the owner should be told of an order: `about` is its state, or what is odd about it.

    `about` is besides the states: canceled (he left the page, it is still open), paid_partial,
    paid_late, unconfirmed (an operator decides), dismissed (he has decided: nothing is credited).
    `surplus`: more than the price came, and that is not decided yet.
    """
    found = cases.cases_of(order.id)
    waiting = [case.kind for case in found if case.resolution is None]
    about = order.state
    if order.state == "attention":
        about = next((kind for kind in reversed(waiting) if kind in _TOLD), about)
    elif order.state in {"expired", "failed"}:
        if any(case.resolution == cases.DISMISS for case in found):
            about = "dismissed"
    elif order.state == "open" and canceled:
        about = "canceled"
    return {"about": about, "surplus": "paid_over" in waiting}


def _shown(moment: datetime) -> str:
    return iso(moment) or ""
