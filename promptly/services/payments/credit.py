"""Credit an order's tokens: once, whatever is delivered, repeated or decided concurrently."""

from datetime import datetime
from typing import Any

from sqlalchemy import func

from promptly import money
from promptly.extensions import db
from promptly.models import Order, User
from promptly.services.ledger import ledger
from promptly.services.mail import outbox
from promptly.services.payments import cases, orders


def credit(order: Order, *, actor: str, approved: bool = False) -> bool:
    """Credit a locked order's tokens; return False if they are credited or the account is gone.

    The ledger entry's reference is the order's number, unique for purchases: even a bug above
    could not credit twice. Without an account the money is a case for the operator.
    """
    if order.credited_at is not None or order.user_id is None:
        return False
    user = db.session.get_one(User, order.user_id)
    change = ledger.adjust(
        user.id, order.tokens, kind="purchase", reference=order.number, actor=actor
    )
    moved = orders.move(order, "paid", credited_at=func.now(), approved=approved)
    if change.applied_delta != order.tokens or not moved:
        raise RuntimeError(f"order {order.number} cannot be credited in state {order.state}")
    cases.supersede(order, because="the order was credited")
    outbox.add(
        "receipt",
        user.email,
        user_id=user.id,
        payload=receipt_of(order) | {"balance_tokens": change.paid_tokens + change.trial_tokens},
    )
    return True


def described(order: Order) -> dict[str, str | int]:
    """Return an order's fields for mails."""
    moment: datetime = order.created_at
    return {
        "number": order.number,
        "pack": order.pack,
        "price": money.shown(order.amount_minor, order.currency),
        "tokens": order.tokens,
        "provider": order.provider,
        "ordered_on": f"{moment:%Y-%m-%d}",
    }


def receipt_of(order: Order) -> dict[str, Any]:
    """Return a credited order's fields for its receipt.

    `received` is None unless another amount came than the price, `tax` unless one was computed.
    """
    paid_at: datetime | None = order.credited_at
    received, tax = order.received_minor, order.tax_minor
    as_priced = received in {None, order.amount_minor} and order.paid_in == order.currency
    return described(order) | {
        "paid_on": f"{paid_at:%Y-%m-%d}",
        "seller": order.seller,
        "tax": None if tax is None else money.shown(tax, order.currency),
        "received": None if as_priced else money.shown(received or 0, order.paid_in),
        "test_mode": not order.livemode,
    }
