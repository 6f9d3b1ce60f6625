"""Webhooks of the payment providers: verify the signature, store the event, answer.

A task handles the event later. Answers are plain text, which providers show to the operator: 200
means stored, 400 not signed by the provider, 404 not configured here; anything else makes the
provider retry.
"""

import functools
from collections.abc import Callable

from flask import Blueprint, Response, request

from promptly import pseudonyms
from promptly.blueprints.page_headers import add_page_headers
from promptly.errors import InvalidRequest, NotFound
from promptly.extensions import limiter
from promptly.runtime.database import WEBHOOKS
from promptly.services.payments import webhook_events
from promptly.services.payments import webhook_inbox as inbox
from promptly.services.payments.webhook_events import ReceivedEvent
from promptly.settings import Settings, current_settings
from promptly.transactions import transaction, use_pool

# Far above what a provider sends; a limited provider retries later.
RATE_LIMIT = "1200 per minute"
BAD_SIGNATURE = "The signature is missing, wrong or too old."

View = Callable[[], Response]


def _plainly(view: Callable[[Settings], ReceivedEvent]) -> View:
    """Wrap a view that reads an event: store the event and answer in plain text."""

    @functools.wraps(view)
    def answer() -> Response:
        settings = current_settings()
        try:
            event = view(settings)
        except (InvalidRequest, NotFound) as problem:
            about = f" ({problem.param})" if problem.param else ""
            return _text(f"{problem.message}{about}\n", problem.status)
        with transaction():
            new = inbox.record(event)
        return _text("stored\n" if new else "known\n", 200)

    limited: View = limiter.limit(RATE_LIMIT, key_func=pseudonyms.of_address)(answer)
    return limited


@_plainly
def stripe(settings: Settings) -> ReceivedEvent:
    """Receive an event from Stripe, snapshot or thin."""
    if not settings.takes_stripe:
        raise NotFound("Stripe is not configured here.")
    # The SDK is large: load it only where Stripe is configured.
    from promptly.clients.stripe import signature_is_good

    body = request.get_data(cache=False)
    header = request.headers.get("Stripe-Signature")
    if not signature_is_good(body, header, settings.stripe_webhook_secret):
        raise InvalidRequest(BAD_SIGNATURE)
    return webhook_events.stripe_event(body, settings)


@_plainly
def btcpay(settings: Settings) -> ReceivedEvent:
    """Receive an event from BTCPay."""
    if not settings.takes_btcpay:
        raise NotFound("BTCPay is not configured here.")
    from promptly.clients.btcpay import signature_is_good

    body = request.get_data(cache=False)
    header = request.headers.get("BTCPay-Sig")
    if not signature_is_good(body, header, settings.btcpay_webhook_secret):
        raise InvalidRequest(BAD_SIGNATURE)
    return webhook_events.btcpay_event(body, settings)


def _text(text: str, status: int) -> Response:
    return Response(text, status=status, mimetype="text/plain")


blueprint = Blueprint("webhooks", __name__)
blueprint.add_url_rule("/stripe/webhook", "stripe", stripe, methods=["POST"])
blueprint.add_url_rule("/btcpay/webhook", "btcpay", btcpay, methods=["POST"])


@blueprint.before_request
def reserve_pool() -> None:
    """Use connections that pages cannot take: an event must be stored even if pages are slow."""
    use_pool(WEBHOOKS)


@blueprint.after_request
def finish(response: Response) -> Response:
    """Keep answers to providers out of caches."""
    response.headers.setdefault("Cache-Control", "no-store")
    return add_page_headers(response)
