"""The permissions of a restricted key: a resource and whether it may be read or written."""

from collections.abc import Collection

# By the first part of a path below /v1.
RESOURCES = {
    "checkout/sessions": "rak_checkout_session",
    "refunds": "rak_refund",
    "charges": "rak_charge",
    "disputes": "rak_dispute",
    "payment_intents": "rak_payment_intent",
    "events": "rak_event",
    "radar/early_fraud_warnings": "rak_radar",
}

# Exactly those that docs/operating/payments.md asks operators to grant.
DOCUMENTED = (
    "rak_checkout_session_write",
    "rak_refund_write",
    "rak_charge_read",
    "rak_dispute_read",
    "rak_payment_intent_read",
    "rak_event_read",
)


def needed(method: str, path: str) -> str:
    """Return the permission that a call needs; empty for an unknown path."""
    for start, resource in RESOURCES.items():
        if f"{path}/".startswith(f"/v1/{start}/"):
            return f"{resource}_{'read' if method == 'GET' else 'write'}"
    return ""


def may(held: Collection[str] | None, permission: str) -> bool:
    """Whether a key may make the call; None are the permissions of a secret key, all of them."""
    if held is None or not permission:
        return True
    return permission in held or permission.replace("_read", "_write") in held
