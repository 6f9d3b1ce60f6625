"""Purchases: the list, one purchase, and a check of its state at the provider."""

from typing import Any

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import labels, money
from promptly.blueprints.admin import actor, confirmation, flash_messages, pages, refund_rows
from promptly.blueprints.admin.cases import case_of
from promptly.clients.provider_errors import ProviderProblem
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import Order, User
from promptly.models.payments import PROVIDERS
from promptly.models.states import OrderState
from promptly.services import paging
from promptly.services.mail import outbox
from promptly.services.payments import (
    cases,
    customer_view,
    orders,
    refunds,
    reversals,
    sync,
    webhook_inbox,
)
from promptly.services.payments.providers import registry
from promptly.settings import current_settings
from promptly.transactions import transaction

MOST_SHOWN = 50
MOST_SEARCHED = 254


def index() -> str:
    """List purchases, newest first."""
    state = _one_of(tuple(OrderState), "state")
    provider = _one_of(PROVIDERS, "provider")
    search = request.args.get("q", "").replace("\x00", "").strip()[:MOST_SEARCHED]
    owed, user_id = "owed" in request.args, pages.number("user_id")
    page = orders.page(
        paging.PAGE_SIZE,
        pages.cursor(),
        user_id=user_id,
        state=state,
        provider=provider,
        owed=owed,
        search=search,
    )
    newer, older = pages.links(page)
    return render_template(
        "admin/purchases.html",
        rows=[row_of(order, email) for order, email in page.rows],
        newer=newer,
        older=older,
        chosen={
            "q": search,
            "state": state,
            "provider": provider,
            "owed": owed,
            "user_id": user_id,
        },
        states=[(name, labels.ORDERS[name]) for name in OrderState],
        providers=list(labels.PROVIDERS.items()),
        open_cases=cases.count_open(),
    )


def one(number: str) -> str:
    """Show one purchase with its cases, refunds, disputes, webhook events and emails."""
    order = orders.find(number)
    user = None if order.user_id is None else db.session.get(User, order.user_id)
    quote = refunds.quote(order)
    settings = current_settings()
    return render_template(
        "admin/purchase.html",
        **row_of(order, None if user is None else user.email),
        order=order,
        received=_shown(order, order.received_minor),
        returned=refund_rows.given_back(order) if quote.returned_minor else None,
        surplus=_shown(order, order.credited_surplus_minor or None),
        refundable=_shown(order, quote.most_minor or None),
        unspent=money.decimal_text(quote.unspent_minor, order.paid_in),
        provider_asks=order.provider in registry.offered(settings),
        cases=[case_of(case) for case in cases.cases_of(order.id)],
        reversals=[refund_rows.row_of(row, order) for row in reversals.of_order(order.id)],
        events=webhook_inbox.page(MOST_SHOWN, order_id=order.id).rows,
        mails=_mails(order),
        words=labels,
        notice=flash_messages.notice(subject=number),
    )


def check(number: str) -> AnyResponse:
    """Fetch the purchase's state from the provider now, and apply it."""
    settings = current_settings()
    with transaction():
        order = orders.find(number)
        confirmation.require_account(order.user_id)
        order_id, user_id, before, name = order.id, order.user_id, order.state, order.provider
    if name not in registry.offered(settings):
        raise InvalidRequest("The provider of this purchase is no longer configured.")
    after: dict[str, Any]
    try:
        with registry.connect(name, settings, registry.OPERATOR_WAITS_SECONDS) as provider:
            synced = sync.sync(order_id, provider)
        after = {"busy": True} if synced is None else {"state": synced.after}
    except ProviderProblem as problem:
        after = {"problem": problem.reason}
    with transaction():
        act = actor.record(
            "payment.check",
            user_id=user_id,
            subject=number,
            before={"state": before},
            after=after,
        )
    return redirect(url_for("admin.purchase", number=number, act=act), 303)


def row_of(order: Order, email: str | None) -> dict[str, Any]:
    """Return the fields shown of an order, in lists and on its page."""
    return {
        "purchase": customer_view.Purchase.of(order),
        "email": email,
        "user_id": order.user_id,
        "provider": labels.PROVIDERS[order.provider],
        "test_mode": not order.livemode,
    }


def _shown(order: Order, amount_minor: int | None) -> str | None:
    return None if amount_minor is None else money.shown(amount_minor, order.paid_in)


def _mails(order: Order) -> list[Any]:
    """Return the emails about a purchase; they are deleted with its account."""
    if order.user_id is None:
        return []
    return outbox.page(MOST_SHOWN, user_id=order.user_id, number=order.number).rows


def _one_of(known: tuple[str, ...], name: str) -> str | None:
    given = request.args.get(name)
    return given if given in known else None
