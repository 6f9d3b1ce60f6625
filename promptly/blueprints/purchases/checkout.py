"""Starting a checkout: from a pack to the provider's payment page."""

from flask import g, make_response, redirect, render_template, request
from werkzeug.wrappers import Response

from promptly.blueprints.error_handlers import request_id
from promptly.errors import InvalidRequest, PaymentRefused, PaymentUnavailable
from promptly.extensions import limiter
from promptly.models import ApiKey
from promptly.services.payments import checkout as checkouts
from promptly.services.payments import customer_view
from promptly.settings import Settings, current_settings

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
    pack, method = request.form.get("pack", ""), request.form.get("method", "")
    try:
        page = checkouts.start(key.user_id, pack, method, settings)
    except (PaymentUnavailable, PaymentRefused) as problem:
        return _not_now(problem, pack, method, settings)
    return redirect(page, 303)


def _not_now(
    problem: PaymentUnavailable | PaymentRefused, pack: str, method: str, settings: Settings
) -> Response:
    """Explain the problem, and offer to retry or to pay with another provider.

    A retry continues the same purchase: the service reuses its order.
    """
    offer = next((offer for offer in customer_view.offers(settings) if offer.name == pack), None)
    if offer is None:
        raise InvalidRequest("There is no such pack.", param="pack")
    again = method in offer.methods and isinstance(problem, PaymentUnavailable)
    response = make_response(
        render_template(
            "checkout_problem.html",
            message=problem.message,
            offer=offer,
            again=method if again else None,
            others=[name for name in offer.methods if name != method],
            request_id=request_id(),
        ),
        problem.status,
    )
    response.headers["x-request-id"] = request_id()
    response.headers.extend(problem.headers())
    return response
