"""Mails to the customer when money or tokens of a purchase go back: one for each change."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from promptly import money
from promptly.extensions import db
from promptly.models import Order, PaymentReversal, User
from promptly.services.ledger import balances
from promptly.services.mail import outbox
from promptly.services.payments import credit

# States in which a third party has taken the money back, or tries to.
CONTESTED = frozenset({"disputed", "charged_back", "invalid"})


@dataclass(frozen=True)
class OrderView:
    """The part of an order that the customer knows."""

    state: str
    refunded_minor: int
    surplus_refunded_minor: int

    @classmethod
    def of(cls, order: Order) -> "OrderView":
        """Return the order's current view."""
        return cls(order.state, order.refunded_minor, order.surplus_refunded_minor)


@dataclass(frozen=True)
class _News:
    """A mail to send; `surplus`: about money beyond the price, which moves no tokens."""

    kind: str
    event: str
    surplus: bool = False


def notify_owner(order: Order, before: OrderView) -> None:
    """Mail the order's owner the changes since `before`, if there are any."""
    news = _news(before, OrderView.of(order))
    user = None if order.user_id is None else db.session.get(User, order.user_id)
    if not news or user is None:
        return
    balance = balances.read(user.id)
    payload: dict[str, Any] = credit.described(order) | {
        "credited": order.credited_at is not None,
        "taken_tokens": order.tokens_taken,
        "balance_tokens": balance["paid_tokens"] + balance["trial_tokens"],
    }
    for item in news:
        refunded = order.surplus_refunded_minor if item.surplus else order.refunded_minor
        own = {
            "event": item.event,
            "surplus": item.surplus,
            "refunded": money.shown(refunded, order.paid_in),
            "claim_url": _claim_url(order, surplus=item.surplus),
        }
        outbox.add(item.kind, user.email, user_id=user.id, payload=payload | own)


def _news(before: OrderView, now: OrderView) -> list[_News]:
    news = []
    if now.refunded_minor != before.refunded_minor:
        more = now.refunded_minor > before.refunded_minor
        news.append(_News("refund_notice", "refunded" if more else "refund_failed"))
    if now.surplus_refunded_minor > before.surplus_refunded_minor:
        news.append(_News("refund_notice", "refunded", surplus=True))
    if now.state != before.state:
        if now.state in CONTESTED:
            news.append(_News("dispute_notice", now.state))
        elif before.state in CONTESTED:
            news.append(_News("dispute_notice", "over"))
    return news


def _claim_url(order: Order, *, surplus: bool) -> str:
    """Return the page where the customer enters the address for a Bitcoin refund; by mail only."""
    query = select(PaymentReversal.link).where(
        PaymentReversal.order_id == order.id,
        PaymentReversal.active,
        PaymentReversal.counts.is_(not surplus),
        PaymentReversal.link.is_not(None),
    )
    return db.session.scalar(query.order_by(PaymentReversal.id.desc()).limit(1)) or ""
