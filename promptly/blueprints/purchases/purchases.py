"""Purchase pages: the status page that providers redirect back to, and the list of purchases."""

from datetime import timedelta

from flask import g, make_response, render_template, request
from werkzeug.wrappers import Response

from promptly.blueprints.purchases.checkout import account
from promptly.blueprints.site import dashboard
from promptly.clock import utcnow
from promptly.extensions import limiter
from promptly.models import ApiKey
from promptly.services import paging
from promptly.services.ledger import balances
from promptly.services.operator_mail import alerts
from promptly.services.payments import customer_view, offers, orders
from promptly.settings import current_settings
from promptly.transactions import enqueue, transaction

STATUS_VIEWS = "120 per minute"

# Seconds before each automatic reload of a page that waits; after the last one it stops.
WAITS = {
    "open": (2, 2, 2, 3, 3, 5, 5, 10, 10, 15, 15, 20, 30, 30, 60, 60),
    "underpaid": (5,) * 12 + (15,) * 20,
    "overdue": (2, 2, 3, 5, 10, 20, 30, 60),
    "processing": (3, 5, 10, 20) + (30,) * 20,
}
# The provider is queried on the first view, and then at most this often.
CHECK_INTERVAL = timedelta(seconds=8)


@limiter.limit(STATUS_VIEWS, key_func=account)
def purchase(number: str) -> Response:
    """Show the status of a purchase; a pending one reloads itself for a limited time.

    `?canceled`: the customer has left the provider's page. `?known`: a click to buy led here.
    """
    key: ApiKey = g.key
    settings = current_settings()
    look = _look()
    with transaction():
        order = orders.find_own(key.user_id, number)
        # This only speeds things up: a webhook or reconciliation would report the payment later.
        if order.is_unsettled and (look == 0 or order.checked_at < utcnow() - CHECK_INTERVAL):
            enqueue("promptly.tasks.payments.check_order", order.id)
        view = customer_view.situation(order, canceled="canceled" in request.args)
        # The page claims only what has happened: without OPERATOR_EMAIL nobody is notified.
        in_doubt = order.state == "attention" or view["surplus"]
        notified = in_doubt and alerts.knows_of(order.id)
        shown = customer_view.Purchase.of(order)
        balance = balances.read(key.user_id)
        offer = offers.offer_again(order, settings)
    waits = WAITS.get(view["about"], ())
    return make_response(
        render_template(
            "purchase.html",
            purchase=shown,
            balance=balance,
            offer=offer,
            refresh_seconds=waits[look] if look < len(waits) else None,
            refreshes=bool(waits),
            next_look=look + 1,
            operator_notified=notified,
            known="1" if "known" in request.args else None,
            time_left=dashboard.remaining(shown.expires_at, utcnow()),
            **view,
        )
    )


def history() -> Response:
    """List the account's purchases, newest first."""
    key: ApiKey = g.key
    before = request.args.get("before")
    page = customer_view.history(key.user_id, paging.SHORT_PAGE_SIZE, before)
    return make_response(
        render_template(
            "purchases.html",
            purchases=page.rows,
            before=page.rows[-1].number if page.next else None,
            first=before is None,
        )
    )


def _look() -> int:
    """Return how often this page has reloaded itself; an invalid number counts as 0."""
    given = request.args.get("look", "")
    return min(int(given), 1000) if given.isascii() and given.isdecimal() and len(given) < 9 else 0
