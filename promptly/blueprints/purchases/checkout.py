"""Starting a checkout: from a pack to the provider's payment page."""

from flask import g, make_response, redirect, render_template, request
from werkzeug.wrappers import Response

from promptly.blueprints.error_handlers import request_id
from promptly.blueprints.site import dashboard
from promptly.errors import InvalidRequest, PaymentRefused, PaymentUnavailable
from promptly.extensions import limiter
from promptly.models import ApiKey
from promptly.services.payments import checkout as checkouts
from promptly.services.payments import offers
from promptly.services.payments.offers import Offer
from promptly.settings import current_settings

CHECKOUTS = "30 per hour"


def account() -> str:
    """Return the rate-limit key of these pages: the account."""
    key: ApiKey = g.key
    return str(key.user_id)


@limiter.limit(CHECKOUTS, key_func=account)
def start() -> Response:
    """Redirect to the provider's checkout for the chosen pack, or explain why not."""
    settings = current_settings()
    key: ApiKey = g.key
    form = request.form
    pack, method, amount = (form.get(name, "") for name in ("pack", "method", "amount"))
    token = form.get("token", "")
    try:
        page = checkouts.start(
            key.user_id,
            pack,
            method,
            settings,
            amount=amount,
            form_token=token,
            again=form.get("again") == "1",
        )
    except InvalidRequest as problem:
        if problem.param != "amount":
            raise
        return dashboard.page(status=400, amount=amount, amount_error=problem.message)
    except (PaymentUnavailable, PaymentRefused) as problem:
        offer = offers.offer_of(offers.chosen(pack, amount, settings), settings)
        return _not_now(problem, offer, method, token)
    return redirect(page, 303)


def _not_now(
    problem: PaymentUnavailable | PaymentRefused, offer: Offer, method: str, token: str
) -> Response:
    """Explain the problem, and offer to retry or to pay with another provider.

    A retry continues the same purchase: the form's token leads to its order.
    """
    again = method in offer.methods and isinstance(problem, PaymentUnavailable)
    response = make_response(
        render_template(
            "checkout_problem.html",
            message=problem.message,
            offer=offer,
            again=method if again else None,
            token=token,
            others=[name for name in offer.methods if name != method],
            request_id=request_id(),
        ),
        problem.status,
    )
    response.headers["x-request-id"] = request_id()
    response.headers.extend(problem.headers())
    return response
