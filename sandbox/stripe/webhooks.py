"""Event delivery to an endpoint: snapshot or thin, signed by the SDK's own function."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import orjson

from sandbox.provider.messages import Message, Signed
from sandbox.stripe.ids import thin_event_id

# The events that docs/operating/payments.md asks a shop to subscribe to; no others are sent.
EVENTS = (
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
)

PATHS = {
    "checkout.session": "/v1/checkout/sessions",
    "payment_intent": "/v1/payment_intents",
    "charge": "/v1/charges",
    "refund": "/v1/refunds",
    "dispute": "/v1/disputes",
    "radar.early_fraud_warning": "/v1/radar/early_fraud_warnings",
}

_importing = threading.Lock()


@dataclass(slots=True)
class Endpoint:
    """A destination of events. ``thin`` sends notifications instead of snapshots.

    While a secret is being rolled, both the old and the new one sign.
    """

    url: str
    secrets: list[str]
    thin: bool = False
    events: list[str] = field(default_factory=lambda: list(EVENTS))

    def wants(self, type: str) -> bool:
        """Whether the endpoint subscribes to a type of event."""
        return any(fnmatchcase(type, pattern) for pattern in self.events)


def message(event: dict[str, Any], endpoint: Endpoint) -> Message:
    """Return the message that delivers an event to an endpoint."""
    sent = thin(event) if endpoint.thin else event
    body = encode(sent)
    return Message(
        id=sent["id"],
        type=event["type"],
        subject=event["data"]["object"]["id"],
        url=endpoint.url,
        build=lambda _: sign(body, endpoint.secrets),
        source=event["id"],
    )


def thin(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event's thin notification, which names the changed object without its state."""
    item = event["data"]["object"]
    request = event["request"]
    moment = datetime.fromtimestamp(event["created"], UTC)
    return {
        "id": thin_event_id(event["livemode"]),
        "object": "v2.core.event",
        "type": f"v1.{event['type']}",
        "livemode": event["livemode"],
        "created": moment.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "context": None,
        "reason": {"type": "request", "request": request} if request["id"] else None,
        "related_object": {
            "id": item["id"],
            "type": item["object"],
            "url": f"{PATHS[item['object']]}/{item['id']}",
        },
        "snapshot_event": event["id"],
    }


def encode(event: Any) -> bytes:
    """Encode an event as it is sent: indented JSON."""
    return orjson.dumps(event, option=orjson.OPT_INDENT_2)


def sign(body: bytes, secrets: Sequence[str], timestamp: int | None = None) -> Signed:
    """Return a request with one signature per secret, made by Stripe's own SDK."""
    with _importing:  # the SDK is large: avoid concurrent imports of it
        from stripe import WebhookSignature

    moment = int(time.time()) if timestamp is None else timestamp
    signatures = []
    for secret in secrets:
        header = WebhookSignature.generate_signature_header(body.decode(), secret, moment)
        signatures.append(header.split(",", 1)[1])
    return Signed(headers(",".join([f"t={moment}", *signatures])), body)


def headers(signature: str | None) -> dict[str, str]:
    """Return the headers of a webhook request."""
    found = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }
    return found | ({"Stripe-Signature": signature} if signature is not None else {})
