"""Events on their way to a webhook: indented JSON, signed over its bytes."""

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
)

# Besides a missing answer, these and 5xx are tried again; any other refusal is final.
TRIED_AGAIN = (408, 429)


@dataclass(slots=True)
class Webhook:
    """Where events go, and which."""

    url: str
    secret: str
    events: list[str] = field(default_factory=lambda: list(TYPES))
    id: str = field(default_factory=lambda: delivery_id())

    def wants(self, type: str) -> bool:
        """Whether events of a type are sent there."""
        return type in self.events


def is_final(status: int) -> bool:
    """Whether the server gives up after this answer; 0 is no answer."""
    return 0 < status < 500 and status not in TRIED_AGAIN


def message(type: str, event: dict[str, Any], webhook: Webhook) -> Message:
    """The message that tells of an event. Every further attempt is a delivery of its own."""
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
    """An event as it is sent."""
    return orjson.dumps(event, option=orjson.OPT_INDENT_2)


def sign(body: bytes, secret: str) -> Signed:
    """A request with the signature of its bytes."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Signed(headers(f"sha256={digest}"), body)


def headers(signature: str | None) -> dict[str, str]:
    """The headers of a webhook request."""
    found = {"Content-Type": "application/json"}
    return found | ({"BTCPay-Sig": signature} if signature is not None else {})


def delivery_id() -> str:
    """Return a new id of a delivery or webhook."""
    return secrets.token_hex(11)
