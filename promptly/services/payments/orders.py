"""Orders: stored before a provider is called, moved by guarded updates, leased during calls.

Lock order: account, order, balance. A process that fetches an order's snapshot from a provider
holds the order's lease from before the fetch until the snapshot is applied, so that an older
snapshot never follows a newer one.
"""

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, collate, func, or_, select, text, update

from promptly.clock import utcnow
from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import Order, PaymentCase, User
from promptly.models.payments import UNSETTLED_STATES
from promptly.models.states import OrderState
from promptly.services.leases import Leases, new_holder
from promptly.services.paging import PAGE_SIZE, START, Cursor, Page, newest_first
from promptly.services.payments import order_states
from promptly.services.payments.clicks import Click
from promptly.services.payments.snapshot import ProviderSnapshot

LEASE_SECONDS = 120
ERROR_LENGTH = 300
# Longer than any attempt to reach a provider: by then its page exists or never will.
CALL_GRACE = timedelta(minutes=10)
# How long the provider's page accepts payments; Stripe allows 30 minutes to a day.
CHECKOUT_LASTS = timedelta(hours=2)

# The pack of money that came on a page of no order here, put on record to refund it.
UNKNOWN_PACK = "unknown"

# Without letters and digits that look alike.
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_NUMBER = re.compile(r"P(-[0-9A-Z]{4}){3}", re.IGNORECASE | re.ASCII)

# A search for an address covers the purchases of this many accounts at most.
MOST_MEANT = 500

_LEASES = Leases(Order.id, Order.leased_by, Order.leased_until, LEASE_SECONDS)


@dataclass(frozen=True)
class Leased:
    """An order and the holder of its lease."""

    order: Order
    holder: str


def new_number() -> str:
    """Return a new number such as `P-7K3M-9QX2-VB4D`: 58 random bits, so it cannot be guessed."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    return f"P-{letters[:4]}-{letters[4:8]}-{letters[8:]}"


def create(click: Click, *, livemode: bool, seller: dict[str, Any] | None) -> Order:
    """Store a purchase at the current price."""
    order = Order(
        number=new_number(),
        user_id=click.user_id,
        pack=click.pack.name,
        tokens=click.pack.tokens,
        amount_minor=click.pack.amount_minor,
        currency=click.currency,
        form_token=click.form_token,
        seller=seller,
        provider=click.provider,
        livemode=livemode,
        expires_at=utcnow() + CHECKOUT_LASTS,
    )
    db.session.add(order)
    db.session.flush()
    db.session.refresh(order)
    return order


def put_on_record(snapshot: ProviderSnapshot) -> Order:
    """Store an order for a paid page that is of no order here, so that it can be refunded.

    It has no account and is never credited; its number is the page's, if that is one of ours.
    """
    number = snapshot.order_number or ""
    amount = snapshot.amount_minor or snapshot.paid_minor or 1
    order = Order(
        number=number if _NUMBER.fullmatch(number) else new_number(),
        user_id=None,
        pack=UNKNOWN_PACK,
        tokens=1,
        amount_minor=amount,
        currency=snapshot.currency,
        provider=snapshot.provider,
        livemode=snapshot.livemode,
        state=OrderState.ATTENTION,
        checkout_id=snapshot.checkout_id,
        payment_id=snapshot.payment_id,
        provider_status=snapshot.provider_status,
        received_minor=snapshot.received_minor,
        expires_at=utcnow(),
    )
    db.session.add(order)
    db.session.flush()
    db.session.refresh(order)
    return order


def is_number(text: str) -> bool:
    """Whether a text looks like the number of an order."""
    return _NUMBER.fullmatch(text) is not None


def find(number: str) -> Order:
    """Return the order with this number; raises NotFound."""
    # Do not query for an invalid number: PostgreSQL rejects some characters, such as NUL.
    query = select(Order).where(Order.number == number)
    order = db.session.scalar(query) if _NUMBER.fullmatch(number) else None
    if order is None:
        raise NotFound("There is no such purchase.")
    return order


def find_own(user_id: int, number: str) -> Order:
    """Return the order with this number if it is this account's; raises NotFound."""
    order = find(number)
    if order.user_id != user_id:
        raise NotFound("There is no such purchase.")
    return order


def id_of(
    provider: str, *, checkout_id: str | None = None, number: str | None = None
) -> int | None:
    """Return the id of the provider's order with this checkout or number, or None."""
    query = select(Order.id).where(Order.provider == provider)
    if checkout_id is not None:
        query = query.where(Order.checkout_id == checkout_id)
    if number is not None:
        query = query.where(Order.number == number)
    return db.session.scalar(query)


def ids_of(provider: str, pages: Collection[str], numbers: Collection[str]) -> dict[str, int]:
    """Return the ids of a provider's orders with these pages or numbers, by page and by number."""
    query = select(Order.id, Order.checkout_id, Order.number).where(
        Order.provider == provider,
        or_(Order.checkout_id.in_(pages), Order.number.in_(numbers)),
    )
    found: dict[str, int] = {}
    for row in db.session.execute(query):
        found |= {name: row.id for name in (row.checkout_id, row.number) if name is not None}
    return found


def checkout_of_payment(provider: str, payment_id: str) -> str | None:
    """Return the checkout of a payment that an order already names, or None."""
    query = select(Order.checkout_id).where(
        Order.provider == provider, Order.payment_id == payment_id
    )
    return db.session.scalar(query)


def history(user_id: int, limit: int = PAGE_SIZE, before: str | None = None) -> Page[Order]:
    """Return a page of an account's purchases, newest first, from the start or after `before`.

    Raises NotFound if `before` is not the number of a purchase of this account.
    """
    at = START if before is None else Cursor(find_own(user_id, before).id)
    return newest_first(select(Order).where(Order.user_id == user_id), Order.id, limit, at)


def page(
    limit: int,
    at: Cursor = START,
    *,
    user_id: int | None = None,
    state: str | None = None,
    provider: str | None = None,
    owed: bool = False,
    search: str = "",
) -> Page[tuple[Order, str | None]]:
    """Return a page of orders with their accounts' addresses, newest first.

    `search` is a number, or a part of an address.
    """
    query = select(Order, User.email).outerjoin(User, User.id == Order.user_id)
    if user_id is not None:
        query = query.where(Order.user_id == user_id)
    if state is not None:
        query = query.where(Order.state == state)
    if provider is not None:
        query = query.where(Order.provider == provider)
    if owed:
        query = query.where(Order.tokens_owed > 0)
    if search:
        query = query.where(_found_by(search.strip()))
    return newest_first(query, Order.id, limit, at)


def lock(order_id: int) -> Order:
    """Return the order, read anew and locked until the transaction ends."""
    query = select(Order).where(Order.id == order_id).with_for_update()
    return db.session.scalars(query.execution_options(populate_existing=True)).one()


def lock_all_of(user_id: int) -> None:
    """Lock an account's orders, before the account is removed."""
    statement = text("SELECT 1 FROM orders WHERE user_id = :user_id ORDER BY id FOR UPDATE")
    db.session.execute(statement, {"user_id": user_id})


def move(order: Order, state: str, **values: Any) -> bool:
    """Change an order's state if the transition is allowed; return whether it did."""
    statement = (
        update(Order)
        .where(Order.id == order.id, Order.state.in_(order_states.may_become(state)))
        .values(state=state, updated_at=func.now(), **values)
        .returning(Order.id)
        .execution_options(synchronize_session=False)
    )
    db.session.flush()
    moved = db.session.execute(statement).first() is not None
    db.session.refresh(order)
    return moved


def lease(order_id: int) -> Leased | None:
    """Lease an order for calls to its provider; return None if it is leased already.

    The row stays locked until the transaction ends. It is locked just once: a stronger lock after
    the update would wait for transactions that reference the row, and they may wait for this one.
    """
    holder = new_holder()
    statement = _LEASES.take(order_id, holder).returning(Order)
    order = db.session.scalars(statement.execution_options(populate_existing=True)).one_or_none()
    return None if order is None else Leased(order, holder)


def locked_by(order_id: int, holder: str) -> Order | None:
    """Return the order, locked, if `holder` still has its lease; None if it was taken over."""
    order = lock(order_id)
    return order if order.leased_by == holder else None


def mark_requested(order: Order) -> None:
    """Record that the provider is about to be asked for a page and has not answered yet."""
    order.response_pending = True
    order.requested_at = utcnow()
    db.session.flush()


def release(order: Order, error: str | None = None) -> None:
    """Release the lease of a locked order and store the error, if there was one."""
    _LEASES.clear(order)
    order.last_error = None if error is None else error[:ERROR_LENGTH]
    order.checked_at = utcnow()
    db.session.flush()


def unsettled(provider: str, limit: int, *, before: datetime) -> list[int]:
    """Return a provider's unsettled orders last checked `before`, least recently checked first."""
    query = select(Order.id).where(
        Order.provider == provider,
        Order.state.in_(UNSETTLED_STATES),
        Order.checked_at < before,
    )
    return list(db.session.scalars(query.order_by(Order.checked_at, Order.id).limit(limit)))


def agrees(order_id: int, snapshot: ProviderSnapshot) -> bool:
    """Whether a page's status and money have been applied, or noted as a second checkout."""
    query = select(Order.checkout_id, Order.provider_status, Order.received_minor)
    known = db.session.execute(query.where(Order.id == order_id)).one()
    if known.checkout_id not in {None, snapshot.checkout_id}:
        if not snapshot.has_money:
            return True
        case = select(PaymentCase.id).where(
            PaymentCase.checkout_id == snapshot.checkout_id,
            PaymentCase.kind == "second_checkout",
        )
        return db.session.scalar(case) is not None
    received, paid = known.received_minor, snapshot.paid_minor
    # The last digit may differ: BTCPay rounds the converted sum in its own way.
    if received is not None and paid is not None and abs(received - paid) > 1:
        return False
    return bool(known.provider_status == snapshot.provider_status)


def owing_with_tokens_left(limit: int) -> list[int]:
    """Return orders that owe tokens although their lots have some left that no request holds."""
    statement = text("""
        SELECT o.id
        FROM orders o
        JOIN lots l ON l.user_id = o.user_id AND l.kind = 'purchase' AND l.reference = o.number
        JOIN balances b ON b.user_id = o.user_id
        WHERE o.tokens_owed > 0 AND l.unspent_tokens > 0 AND b.paid_tokens > b.held_paid
        ORDER BY o.id LIMIT :limit
    """)
    return list(db.session.scalars(statement, {"limit": limit}))


def _found_by(words: str) -> ColumnElement[bool]:
    if _NUMBER.fullmatch(words):
        return Order.number == words.upper()
    # Few accounts match, so look up their orders instead of every order's account.
    # Collation "C" compares bytes, in half the time; addresses are ASCII.
    address = collate(User.email, "C")
    meant = select(User.id).where(address.icontains(words, autoescape=True)).limit(MOST_MEANT)
    return Order.user_id.in_(db.session.scalars(meant).all())
