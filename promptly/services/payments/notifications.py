"""What a customer is told when money or tokens of a purchase go back: once for each change."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from promptly import money
from promptly.extensions import db
from promptly.models import Order, PaymentReversal, User
from promptly.services.ledger import balances
from promptly.services.mail import outbox
from promptly.services.payments import credit

# States in which somebody else has taken the money back, or tries to.
CONTESTED = frozenset({"disputed", "charged_back", "invalid"})


@dataclass(frozen=True)
class OrderView:
    """What the customer knows of an order."""

    state: str
    refunded_minor: int

    @classmethod
    def of(cls, order: Order) -> "OrderView":
        """The order as it is now."""
        return cls(order.state, order.refunded_minor)


def tell_what_changed(order: Order, before: OrderView) -> None:
    """Mail the order's owner what is new since `before`, if something is."""
    news = _news(before, OrderView.of(order))
    user = None if order.user_id is None else db.session.get(User, order.user_id)
    if not news or user is None:
        return
    balance = balances.read(user.id)
    payload: dict[str, Any] = credit.described(order) | {
        "refunded": money.shown(order.refunded_minor, order.currency),
        "credited": order.credited_at is not None,
        "taken_tokens": order.tokens_taken,
        "balance_tokens": balance["paid_tokens"] + balance["trial_tokens"],
        "claim_url": _claim_url(order),
    }
    for kind, event in news:
        outbox.add(kind, user.email, user_id=user.id, payload=payload | {"event": event})


def _news(before: OrderView, now: OrderView) -> list[tuple[str, str]]:
    """The kinds of mail with what happened."""
    news = []
    if now.refunded_minor != before.refunded_minor:
        more = now.refunded_minor > before.refunded_minor
        news.append(("refund_notice", "refunded" if more else "refund_failed"))
    if now.state != before.state:
        if now.state in CONTESTED:
            news.append(("dispute_notice", now.state))
        elif before.state in CONTESTED:
            news.append(("dispute_notice", "over"))
    return news


def _claim_url(order: Order) -> str:
    """Where the customer of a Bitcoin refund says where to send it; it goes by mail only."""
    query = select(PaymentReversal.link).where(
        PaymentReversal.order_id == order.id,
        PaymentReversal.active,
        PaymentReversal.link.is_not(None),
    )
    return db.session.scalar(query.order_by(PaymentReversal.id.desc()).limit(1)) or ""
