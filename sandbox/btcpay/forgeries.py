"""Webhook requests that must not be trusted, and signed ones that do not concern us."""

import time
from typing import Any

import orjson

from sandbox.btcpay import webhooks
from sandbox.btcpay.store import Store, new_id
from sandbox.provider.control import Refused
from sandbox.provider.messages import Signed

# Signed incorrectly, or not at all.
UNSIGNED = (
    "unsigned",
    "wrong_secret",
    "empty_secret",
    "tampered",
    "reserialised",
    "garbled_header",
    "not_ascii_header",
)
# Signed correctly, but not an event.
MALFORMED = ("truncated", "array", "empty", "null", "not_json", "not_utf8", "no_invoice", "no_type")
# Correctly signed events that must not be credited.
FOREIGN = ("unknown_type", "other_store", "foreign_invoice", "other_order", "unpaid")
KINDS = UNSIGNED + MALFORMED + FOREIGN


def forge(store: Store, kind: str, invoice: str | None) -> Signed:
    """Build a forged InvoiceSettled, about an invoice if one is given.

    Raises Refused for an unknown kind or if no webhook is set.
    """
    if kind not in KINDS:
        raise Refused(f"kind must be one of {', '.join(KINDS)}")
    if store.webhook is None:
        raise Refused("there is no webhook")
    secret = store.webhook.secret
    event = _event(store, kind, invoice)
    body = webhooks.encode(event)
    if kind in UNSIGNED:
        return _signed_wrongly(event, body, kind, secret)
    other = {
        "truncated": body[: len(body) // 2],
        "array": b"[]",
        "empty": b"",
        "null": b"null",
        "not_json": b"payment=settled",
        "not_utf8": body[:-2] + b"\xff\xfe}",
    }
    return webhooks.sign(other.get(kind, body), secret)


def _event(store: Store, kind: str, invoice: str | None) -> dict[str, Any]:
    assert store.webhook is not None
    delivery = webhooks.delivery_id()
    known = store.invoices.get(invoice or "")
    event: dict[str, Any] = {
        "deliveryId": delivery,
        "webhookId": store.webhook.id,
        "originalDeliveryId": delivery,
        "isRedelivery": False,
        "type": "InvoiceSettled",
        "timestamp": int(time.time()),
        "storeId": store.id,
        "invoiceId": known["id"] if known else new_id(),
        "metadata": dict(known["metadata"]) if known else {},
        "manuallyMarked": False,
        "overPaid": False,
    }
    changes: dict[str, dict[str, Any]] = {
        "unknown_type": {"type": "InvoiceTeleported"},
        "other_store": {"storeId": new_id(44)},
        "foreign_invoice": {"invoiceId": new_id()},
        "other_order": {"metadata": {"orderId": "somebody-elses"}},
        "no_invoice": {"invoiceId": None},
    }
    event |= changes.get(kind, {})
    if kind == "no_type":
        del event["type"]
    return event


def _signed_wrongly(event: dict[str, Any], body: bytes, kind: str, secret: str) -> Signed:
    if kind == "unsigned":
        return Signed(webhooks.headers(None), body)
    if kind == "garbled_header":
        return Signed(webhooks.headers("sha256"), body)
    if kind == "not_ascii_header":
        return Signed(webhooks.headers("sha256=\u00e4\u00f6"), body)
    if kind == "wrong_secret":
        return webhooks.sign(body, new_id())
    if kind == "empty_secret":
        return webhooks.sign(body, "")
    signed = webhooks.sign(body, secret)
    # The same content in different bytes, or different content.
    return Signed(signed.headers, orjson.dumps(event) if kind == "reserialised" else body + b"\n")
