"""Event delivery to a webhook: indented JSON, signed over its bytes."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from sandbox.provider.messages import Message, Signed

TYPES = (
    "InvoiceCreated",
    "InvoiceReceivedPayment",
    "InvoicePaymentSettled",
    "InvoiceProcessing",
    "InvoiceExpired",
    "InvoiceSettled",
    "InvoiceInvalid",
    "InvoiceExpiredPaidPartial",
    "InvoicePaidAfterExpiration",
    "InvoiceRefund",
)

# These, 5xx and missing answers are retried; any other refusal is final.
TRIED_AGAIN = (408, 429)


@dataclass(slots=True)
class Webhook:
    """A destination of events, and the types it receives."""

    url: str
    secret: str
    events: list[str] = field(default_factory=lambda: list(TYPES))
    id: str = field(default_factory=lambda: delivery_id())

    def wants(self, type: str) -> bool:
        """Whether the webhook subscribes to a type of event."""
        return type in self.events


def is_final(status: int) -> bool:
    """Whether the server gives up after this status; 0 means no answer."""
    return 0 < status < 500 and status not in TRIED_AGAIN


def message(type: str, event: dict[str, Any], webhook: Webhook) -> Message:
    """Return the message of an event. Every retry is a delivery with its own id."""
    original = delivery_id()

    def build(number: int) -> Signed:
        body = {
            "deliveryId": original if number == 1 else delivery_id(),
            "webhookId": webhook.id,
            "originalDeliveryId": original,
            "isRedelivery": number > 1,
            "type": type,
            "timestamp": int(time.time()),
            **event,
        }
        return sign(encode(body), webhook.secret)

    return Message(original, type, event["invoiceId"], webhook.url, build)


def encode(event: Any) -> bytes:
    """Encode an event as it is sent: indented JSON."""
    return orjson.dumps(event, option=orjson.OPT_INDENT_2)


def sign(body: bytes, secret: str) -> Signed:
    """Return a request signed over its bytes."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Signed(headers(f"sha256={digest}"), body)


def headers(signature: str | None) -> dict[str, str]:
    """Return the headers of a webhook request."""
    found = {"Content-Type": "application/json"}
    return found | ({"BTCPay-Sig": signature} if signature is not None else {})


def delivery_id() -> str:
    """Return a new id of a delivery or webhook."""
    return secrets.token_hex(11)
