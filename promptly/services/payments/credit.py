"""Credit an order's tokens: once, whatever is delivered, repeated or decided concurrently.

A surplus is credited when an operator decides so, at the rate of the order's pack.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import func

from promptly import money
from promptly.extensions import db
from promptly.models import Order, User
from promptly.services.ledger import ledger
from promptly.services.ledger.ledger import Change
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
    _mail_receipt(order, user, change)
    return True


def surplus_tokens(order: Order, amount_minor: int) -> int:
    """Return what an amount buys at the rate of an order's pack, rounded down."""
    return order.tokens * amount_minor // (order.amount_minor + order.credited_surplus_minor)


def credit_surplus(order: Order, amount_minor: int, *, actor: str) -> int:
    """Credit a part of what came beyond the price of a locked, credited order; return the tokens.

    From then on they belong to the purchase and its lot: a refund or a dispute takes its share of
    them. The entry's reference names the whole surplus credited, so no part is credited twice.
    """
    user = None if order.user_id is None else db.session.get_one(User, order.user_id)
    tokens = surplus_tokens(order, amount_minor)
    if user is None or order.credited_at is None or tokens <= 0:
        raise RuntimeError(f"order {order.number}: its surplus cannot be credited")
    order.tokens += tokens
    order.credited_surplus_minor += amount_minor
    change = ledger.adjust(
        user.id,
        tokens,
        kind="purchase",
        reference=f"{order.number}/surplus-{order.credited_surplus_minor}",
        actor=actor,
    )
    if change.applied_delta != tokens:
        raise RuntimeError(f"order {order.number}: the surplus has been credited already")
    _mail_receipt(
        order, user, change, price=money.shown(amount_minor, order.paid_in), tokens=tokens
    )
    return tokens


def _mail_receipt(order: Order, user: User, change: Change, **of_surplus: str | int) -> None:
    balance = {"balance_tokens": change.paid_tokens + change.trial_tokens}
    payload = receipt_of(order) | balance | of_surplus
    outbox.add("receipt", user.email, user_id=user.id, payload=payload)


def described(order: Order) -> dict[str, str | int]:
    """Return an order's fields for mails."""
    moment: datetime = order.created_at
    return {
        "number": order.number,
        "pack": order.pack,
        "price": money.shown(order.amount_minor + order.credited_surplus_minor, order.currency),
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
    bought_for = order.amount_minor + order.credited_surplus_minor
    as_priced = received in {None, bought_for} and order.paid_in == order.currency
    return described(order) | {
        "paid_on": f"{paid_at:%Y-%m-%d}",
        "seller": order.seller,
        "tax": None if tax is None else money.shown(tax, order.currency),
        "received": None if as_priced else money.shown(received or 0, order.paid_in),
        "test_mode": not order.livemode,
    }
