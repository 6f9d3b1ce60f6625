"""Webhook requests that must not be trusted, and signed ones that do not concern us."""

import copy
import time
from typing import Any

from sandbox.provider.control import Refused
from sandbox.provider.messages import Signed
from sandbox.stripe import webhooks
from sandbox.stripe.account import Account
from sandbox.stripe.ids import new_id, session_id, token
from sandbox.stripe.objects import API_VERSION, Object

STALE_SECONDS = 301

# Signed incorrectly, or not at all.
UNSIGNED = ("unsigned", "wrong_secret", "empty_secret", "stale", "tampered", "garbled_header")
# Signed correctly, but not an event.
MALFORMED = ("truncated", "array", "empty", "null", "not_json", "not_utf8", "thin_null", "no_type")
# Correctly signed events that must not be credited.
FOREIGN = (
    "unknown_type",
    "other_livemode",
    "foreign_account",
    "foreign_session",
    "other_amount",
    "other_currency",
    "other_status",
)
KINDS = UNSIGNED + MALFORMED + FOREIGN


def forge(account: Account, kind: str, session: str | None, thin: bool) -> Signed:
    """Build a forged request, about a session if one is given.

    Raises Refused for an unknown kind or if no endpoint is set.
    """
    if kind not in KINDS:
        raise Refused(f"kind must be one of {', '.join(KINDS)}")
    if not account.endpoints:
        raise Refused("there is no endpoint")
    event = _event(account, kind, session)
    secrets = account.endpoints[0].secrets
    body = webhooks.encode(_altered(event, kind))
    if thin or kind == "thin_null":
        body = webhooks.encode(_thin(event, kind))
    if kind in MALFORMED:
        return _malformed(body, kind, secrets)
    return _signed(body, kind, secrets)


def _event(account: Account, kind: str, session: str | None) -> Object:
    """Return the event of a session that was just completed and paid."""
    if session is not None and kind != "foreign_session":
        item = account.shown(account.get("checkout.session", session))
    else:
        item = {
            "id": session_id(account.livemode),
            "object": "checkout.session",
            "amount_total": 50,
            "client_reference_id": None,
            "currency": "usd",
            "livemode": account.livemode,
            "metadata": {},
        }
    item |= {"payment_status": "paid", "status": "complete", "payment_intent": new_id("pi_3")}
    return {
        "id": new_id("evt_1"),
        "object": "event",
        "api_version": API_VERSION,
        "created": int(time.time()),
        "data": {"object": item},
        "livemode": account.livemode,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": "checkout.session.completed",
    }


def _altered(event: Object, kind: str) -> Object:
    item = event["data"]["object"]
    if kind == "unknown_type":
        event["type"] = "customer.teleported"
    elif kind == "other_livemode":
        event["livemode"] = item["livemode"] = not event["livemode"]
    elif kind == "foreign_account":
        event["account"] = f"acct_1{token(15)}"
    elif kind == "other_amount":
        item["amount_total"] = item["amount_total"] * 100
    elif kind == "other_currency":
        item["currency"] = "eur" if item["currency"] == "usd" else "usd"
    elif kind == "other_status":
        item["status"] = "expired"
    elif kind == "no_type":
        del event["type"]
    return event


def _thin(event: Object, kind: str) -> Object:
    found = webhooks.thin({**copy.deepcopy(event), "type": event.get("type", "unknown")})
    if kind == "thin_null":
        found["related_object"] = None
    elif kind == "foreign_account":
        found["context"] = event["account"]
    return found


def _malformed(body: bytes, kind: str, secrets: list[str]) -> Signed:
    if kind == "not_utf8":
        signed = webhooks.sign(body, secrets)
        return Signed(signed.headers, body[:-2] + b"\xff\xfe}")
    other: dict[str, bytes] = {
        "truncated": body[: len(body) // 2],
        "array": b"[]",
        "empty": b"",
        "null": b"null",
        "not_json": b"payment=succeeded",
    }
    return webhooks.sign(other.get(kind, body), secrets)


def _signed(body: bytes, kind: str, secrets: list[str]) -> Signed:
    if kind == "unsigned":
        return Signed(webhooks.headers(None), body)
    if kind == "garbled_header":
        return Signed(webhooks.headers("v1=,t=now"), body)
    if kind == "wrong_secret":
        return webhooks.sign(body, [f"whsec_{token(32)}"])
    if kind == "empty_secret":
        return webhooks.sign(body, [""])
    if kind == "stale":
        return webhooks.sign(body, secrets, int(time.time()) - STALE_SECONDS)
    if kind == "tampered":
        signed: dict[str, Any] = webhooks.sign(body, secrets).headers
        return Signed(signed, body.replace(b'"unpaid"', b'"paid"') + b"\n")
    return webhooks.sign(body, secrets)
