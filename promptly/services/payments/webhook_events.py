"""Parsing of webhooks: only the event's identity and the id of its object are kept.

The object itself is fetched from the provider instead. So Stripe's snapshot and thin events are
the same here, and a wrong amount in an event has no effect.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from promptly.errors import InvalidRequest
from promptly.settings import Settings

MOST_CHARACTERS = 255

# The events that are handled, and the kind of object each is about.
STRIPE_TYPES: Mapping[str, str] = {
    "checkout.session.completed": "session",
    "checkout.session.async_payment_succeeded": "session",
    "checkout.session.async_payment_failed": "session",
    "checkout.session.expired": "session",
    "charge.refunded": "charge",
    "charge.refund.updated": "refund",
    "refund.created": "refund",
    "refund.updated": "refund",
    "refund.failed": "refund",
    "charge.dispute.created": "dispute",
    "charge.dispute.updated": "dispute",
    "charge.dispute.closed": "dispute",
    "charge.dispute.funds_withdrawn": "dispute",
    "charge.dispute.funds_reinstated": "dispute",
    "radar.early_fraud_warning.created": "early_fraud_warning",
}
# Those that the manual asks operators to subscribe to: any other may be missing from the inbox.
STRIPE_SUBSCRIBED = frozenset(
    {
        "checkout.session.completed",
        "checkout.session.expired",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
        "charge.refunded",
        "refund.failed",
        "refund.updated",
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.closed",
    }
)
REFUND = "InvoiceRefund"
BTCPAY_TYPES = frozenset(
    {
        "InvoiceReceivedPayment",
        "InvoicePaymentSettled",
        "InvoiceProcessing",
        "InvoiceExpired",
        "InvoiceExpiredPaidPartial",
        "InvoicePaidAfterExpiration",
        "InvoiceSettled",
        "InvoiceInvalid",
        REFUND,
    }
)


@dataclass(frozen=True)
class ReceivedEvent:
    """An event; `unused` is the reason why it is not handled, if there is one.

    `object_id` of BTCPay's InvoiceRefund is the invoice and, after a slash, the pull payment.
    """

    provider: str
    event_id: str
    type: str
    object_id: str | None
    unused: str | None = None


class MalformedEvent(InvalidRequest):
    """The body of a webhook, signed or not, is not an event."""

    message = "This is not an event."


def stripe_event(body: bytes, settings: Settings) -> ReceivedEvent:
    """Parse the event in a webhook of Stripe, snapshot or thin; raises MalformedEvent."""
    return stripe_event_of(_object(body), settings)


def stripe_event_of(event: dict[str, Any], settings: Settings) -> ReceivedEvent:
    """As `stripe_event`, for an event that is decoded already."""
    kind = event.get("object")
    if kind not in {"event", "v2.core.event"}:
        raise MalformedEvent()
    # A thin event about one of the older objects has the older name behind a version prefix.
    name = _text(event, "type").removeprefix("v1.")
    received = ReceivedEvent("stripe", _text(event, _id_of(event)), name, None)
    if name not in STRIPE_TYPES:
        # Of these not even the form is known: some are about nothing, or about an object without
        # an id, such as the balance.
        return _unused(received, "this type of event is not used")
    if kind == "event":
        about, foreign = _inner(_inner(event, "data"), "object"), event.get("account")
    else:
        about, foreign = _inner(event, "related_object"), event.get("context")
    received = replace(received, object_id=_text(about, "id"))
    if foreign:
        return _unused(received, "it is about another Stripe account")
    if event.get("livemode") is not settings.stripe_is_live:
        return _unused(received, "it is about the other mode, live or test")
    return received


def _id_of(event: dict[str, Any]) -> str:
    """Return the field with the id by which Stripe lists an event: a thin one has another id."""
    return "snapshot_event" if event.get("snapshot_event") is not None else "id"


def btcpay_event(body: bytes, settings: Settings) -> ReceivedEvent:
    """Parse the event in a webhook of BTCPay; raises MalformedEvent.

    A repeated delivery has a new id and names the first one, which is the event's id here.
    """
    event = _object(body)
    name = _text(event, "type")
    first = "originalDeliveryId" if event.get("originalDeliveryId") else "deliveryId"
    received = ReceivedEvent(
        provider="btcpay",
        event_id=_text(event, first),
        type=name,
        object_id=_text(event, "invoiceId") if name in BTCPAY_TYPES else None,
    )
    if name not in BTCPAY_TYPES:
        return _unused(received, "this type of event is not used")
    if name == REFUND and event.get("pullPaymentId") is not None:
        both = f"{received.object_id}/{_text(event, 'pullPaymentId')}"
        if len(both) > MOST_CHARACTERS:
            raise MalformedEvent(param="pullPaymentId")
        received = replace(received, object_id=both)
    if event.get("storeId") != settings.btcpay_store_id:
        return _unused(received, "it is about another BTCPay store")
    return received


def _unused(event: ReceivedEvent, reason: str) -> ReceivedEvent:
    return replace(event, unused=reason)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedEvent() from None
    if not isinstance(found, dict):
        raise MalformedEvent()
    return found


def _inner(outer: dict[str, Any], name: str) -> dict[str, Any]:
    found = outer.get(name)
    if not isinstance(found, dict):
        raise MalformedEvent(param=name)
    return found


def _text(outer: dict[str, Any], name: str) -> str:
    found = outer.get(name)
    # PostgreSQL's text cannot contain zero bytes.
    if not isinstance(found, str) or not 0 < len(found) <= MOST_CHARACTERS or "\0" in found:
        raise MalformedEvent(param=name)
    return found
