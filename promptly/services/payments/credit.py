"""Credit an order's tokens: once, whatever is delivered, repeated or decided concurrently."""

from datetime import datetime

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
        payload=described(order) | {"balance_tokens": change.paid_tokens + change.trial_tokens},
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
