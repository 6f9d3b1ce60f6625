"""Clicks to buy, and the purchases that they continue.

Double clicks, reloads and the back button must not buy twice. A form carries a token, so sent again
it leads to its order; and any form continues a purchase that is not paid yet. Once it is paid, a
new form makes a new purchase.
"""

import re
import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, func, or_, select

from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import Order
from promptly.models.states import OrderState
from promptly.packs import Pack

# How long any form continues an order whose page is not known yet.
SAME_PURCHASE = timedelta(minutes=5)

_FORM_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True)
class Click:
    """A click on a pack, at its price, of a provider.

    `again`: the customer knows of the purchase whose payment is on its way, and wants another.
    """

    user_id: int
    pack: Pack
    currency: str
    provider: str
    form_token: str | None = None
    again: bool = False


def new_form_token() -> str:
    """Return a token for one form."""
    return secrets.token_urlsafe(16)


def checked_token(form_token: str) -> str | None:
    """Return a form's token, None if it has none; raises InvalidRequest (param `token`)."""
    if form_token and not _FORM_TOKEN.fullmatch(form_token):
        raise InvalidRequest("The form's token is not valid. Reload the page.", param="token")
    return form_token or None


def known_order(click: Click) -> Order | None:
    """Return the newest order that a click is about, or None if it makes a new purchase.

    An order that is unpaid: one whose page is still open, or not known yet. One whose payment is on
    its way, unless the customer wants the pack `again`. And each that the same form has ordered,
    unless it ended without money. The caller must have locked the account.
    """
    is_open = and_(Order.state == OrderState.OPEN, Order.expires_at > func.now())
    is_new = and_(Order.state == OrderState.CREATED, Order.created_at > func.now() - SAME_PURCHASE)
    meant = [is_open, is_new]
    if not click.again:
        meant.append(Order.state == OrderState.PROCESSING)
    if click.form_token is not None:
        over = (OrderState.OPEN, OrderState.EXPIRED, OrderState.FAILED)
        meant.append(and_(Order.form_token == click.form_token, Order.state.not_in(over)))
    query = select(Order).where(
        Order.user_id == click.user_id,
        Order.provider == click.provider,
        Order.pack == click.pack.name,
        Order.tokens == click.pack.tokens,
        Order.amount_minor == click.pack.amount_minor,
        Order.currency == click.currency,
        or_(*meant),
    )
    return db.session.scalar(query.order_by(Order.id.desc()).limit(1))
