"""Webhook events and signatures as the providers send them."""

import hashlib
import hmac
import json
import time
from typing import Any

import stripe

from promptly.secret import Secret

STRIPE_SECRET = "whsec_test_0123456789"
BTCPAY_SECRET = "btcpay-secret-0123456789"
STORE = "store1"

CONFIGURED: dict[str, Any] = {
    "stripe_secret_key": Secret("sk_test_0123456789"),
    "stripe_webhook_secret": (Secret("whsec_old"), Secret(STRIPE_SECRET)),
    "stripe_api_base": "http://127.0.0.1:1",
    "btcpay_url": "http://127.0.0.1:1",
    "btcpay_api_key": Secret("btcpay-key"),
    "btcpay_store_id": STORE,
    "btcpay_webhook_secret": Secret(BTCPAY_SECRET),
}


def snapshot(event_id: str = "evt_1", **values: Any) -> dict[str, Any]:
    """Return a Stripe snapshot event about a session."""
    return {
        "id": event_id,
        "object": "event",
        "type": "checkout.session.completed",
        "livemode": False,
        "data": {"object": {"id": "cs_1", "object": "checkout.session", "amount_total": 1}},
        **values,
    }


def thin(event_id: str = "evt_thin", **values: Any) -> dict[str, Any]:
    """Return a Stripe thin event about a charge."""
    return {
        "id": event_id,
        "object": "v2.core.event",
        "type": "v1.charge.refunded",
        "livemode": False,
        "created": "2026-11-23T12:00:00Z",
        "related_object": {"id": "ch_1", "type": "charge", "url": "/v1/charges/ch_1"},
        **values,
    }


def invoice_event(delivery_id: str = "d1", **values: Any) -> dict[str, Any]:
    """Return a BTCPay event about an invoice."""
    return {
        "deliveryId": delivery_id,
        "originalDeliveryId": delivery_id,
        "webhookId": "w1",
        "isRedelivery": False,
        "type": "InvoiceSettled",
        "storeId": STORE,
        "invoiceId": "inv1",
        **values,
    }


def stripe_headers(
    body: bytes, secret: str = STRIPE_SECRET, age_seconds: int = 0
) -> dict[str, str]:
    """Return the signature header as Stripe's SDK itself generates it."""
    header = stripe.WebhookSignature.generate_signature_header(
        body.decode("utf-8", "surrogateescape"), secret, int(time.time()) - age_seconds
    )
    return {"Stripe-Signature": header}


def btcpay_headers(body: bytes, secret: str = BTCPAY_SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"BTCPay-Sig": f"sha256={digest}"}


def encode(event: Any) -> bytes:
    # Indented, as BTCPay sends it, so that re-serialising would break the signature.
    return json.dumps(event, indent=2).encode()
