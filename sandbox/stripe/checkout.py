"""The life of a Checkout Session: created, paid, settled later, or expired."""

from typing import Any

from sandbox.provider.control import Refused
from sandbox.stripe import objects
from sandbox.stripe.account import Account
from sandbox.stripe.errors import ApiError
from sandbox.stripe.objects import MINIMUM, Object

SHORTEST_SECONDS, LONGEST_SECONDS = 30 * 60, 24 * 3600

# Of an account that adds none by default, where a session asks for it.
TAX_PERCENT = 20

CARD, DEBIT = "card", "sepa_debit"


def create(account: Account, params: dict[str, Any]) -> Object:
    """Create a session. Raises ApiError where Stripe would refuse."""
    now = account.now()
    amount, currency = _total(params["line_items"])
    least = MINIMUM[currency]
    if amount < least:
        raise ApiError(
            f"The session's total must be at least {least} in the smallest unit of {currency}.",
            code="amount_too_small",
            executed=True,
        )
    expires_at = params.get("expires_at", now + LONGEST_SECONDS)
    # Counted from when Stripe gets the call; a minute of tolerance for clock skew.
    if not now + SHORTEST_SECONDS - 60 <= expires_at <= now + LONGEST_SECONDS + 60:
        raise ApiError(
            "expires_at must be between 30 minutes and 24 hours from now.", param="expires_at"
        )
    _check_terms(account, params)
    made = account.add(objects.session(params, amount, currency, now, account.livemode))
    _add_tax(account, made, params)
    account.hidden[made["id"]] = {
        "payment_intent_data": params.get("payment_intent_data", {}),
        "names": [item["price_data"]["product_data"]["name"] for item in params["line_items"]],
    }
    return made


def _check_terms(account: Account, params: dict[str, Any]) -> None:
    consent = params.get("consent_collection", {}).get("terms_of_service")
    if consent == "required" and not account.has_terms:
        raise ApiError(
            "You cannot collect consent to your terms of service unless a URL is set in the Stripe "
            "Dashboard.",
            param="consent_collection[terms_of_service]",
        )
    texts = params.get("custom_text", {})
    if "terms_of_service_acceptance" in texts and consent != "required":
        raise ApiError(
            "This text is shown only with consent_collection[terms_of_service]=required.",
            param="custom_text[terms_of_service_acceptance]",
        )


def _add_tax(account: Account, session: Object, params: dict[str, Any]) -> None:
    """Compute the tax of a session that asks for it, or that says nothing if it is the default.

    It is contained in an inclusive price, and added to any other.
    """
    percent = account.default_tax_percent
    given = params.get("automatic_tax")
    if not (percent > 0 if given is None else given["enabled"]):
        return
    percent = percent or TAX_PERCENT
    session["automatic_tax"] = {
        "enabled": True,
        "liability": {"type": "self"},
        "provider": "stripe",
        "status": "complete",
    }
    price, tax, added = session["amount_subtotal"], 0, 0
    for item in params["line_items"]:
        amount = item["price_data"]["unit_amount"] * item["quantity"]
        if item["price_data"].get("tax_behavior") == "inclusive":
            tax += amount * percent // (100 + percent)
        else:
            added += amount * percent // 100
    session["total_details"]["amount_tax"] = tax + added
    session["amount_total"] = price + added


def _total(items: list[dict[str, Any]]) -> tuple[int, str]:
    currencies = {item["price_data"]["currency"].lower() for item in items}
    if len(currencies) != 1:
        raise ApiError("All line items must have one currency.", param="line_items")
    currency = currencies.pop()
    if currency not in MINIMUM:
        where = "line_items[0][price_data][currency]"
        raise ApiError(f"Invalid currency: {currency}", param=where)
    return sum(item["price_data"]["unit_amount"] * item["quantity"] for item in items), currency


def pay(account: Account, session_id: str, *, delayed: bool = False, email: str = "") -> Object:
    """Pay a session as the customer: at once by card, or by a debit that settles later.

    Raises Refused if the session is not open.
    """
    session = _open(account, session_id)
    now = account.now()
    method = DEBIT if delayed else CARD
    hidden = account.hidden.get(session_id, {})
    intent = account.add(
        objects.payment_intent(session, hidden.get("payment_intent_data", {}), method, now)
    )
    account.emit("payment_intent.created", intent)
    if email:
        session["customer_details"] = objects.customer_details(email)
    given = (session["customer_details"] or {}).get("email")
    charge = account.add(objects.charge(intent, method, given, now))
    intent["latest_charge"] = charge["id"]
    session |= {"status": "complete", "payment_intent": intent["id"]}
    if delayed:
        account.emit("charge.pending", charge)
        account.emit("payment_intent.processing", intent)
    else:
        _collect(account, session, intent, charge)
    account.emit("checkout.session.completed", session)
    return session


def settle(account: Account, session_id: str, *, succeeded: bool) -> Object:
    """Let a processing debit succeed or fail.

    Raises Refused if there is none.
    """
    session = account.get("checkout.session", session_id)
    intent = account.objects.get(session["payment_intent"] or "")
    if intent is None or intent["status"] != "processing":
        raise Refused("no payment of this session is under way")
    charge = account.get("charge", intent["latest_charge"])
    if succeeded:
        _collect(account, session, intent, charge)
        account.emit("checkout.session.async_payment_succeeded", session)
        return session
    charge |= {
        "status": "failed",
        "failure_code": "insufficient_funds",
        "failure_message": "The customer's account has insufficient funds.",
    }
    error = {
        "code": "payment_method_provider_decline",
        "message": charge["failure_message"],
        "type": "card_error",
    }
    intent |= {"status": "requires_payment_method", "last_payment_error": error}
    account.emit("charge.failed", charge)
    account.emit("payment_intent.payment_failed", intent)
    account.emit("checkout.session.async_payment_failed", session)
    return session


def expire(account: Account, session_id: str) -> Object:
    """Expire an open session. Raises Refused if it is not open."""
    session = _open(account, session_id)
    session["status"] = "expired"
    account.emit("checkout.session.expired", session)
    return session


def expire_overdue(account: Account) -> None:
    """Expire every open session past its ``expires_at``."""
    now = account.now()
    for session in account.every("checkout.session"):
        if session["status"] == "open" and session["expires_at"] <= now:
            expire(account, session["id"])


def settle_overdue(account: Account, after_seconds: float) -> None:
    """Let every debit succeed that has been processing for ``after_seconds``."""
    for session in account.every("checkout.session"):
        intent = account.objects.get(session["payment_intent"] or "")
        if (
            intent is not None
            and intent["status"] == "processing"
            and intent["created"] + after_seconds <= account.now()
        ):
            settle(account, session["id"], succeeded=True)


def _open(account: Account, session_id: str) -> Object:
    session = account.get("checkout.session", session_id)
    if session["status"] != "open":
        raise Refused(f"the session is {session['status']}")
    return session


def _collect(account: Account, session: Object, intent: Object, charge: Object) -> None:
    charge |= {
        "status": "succeeded",
        "paid": True,
        "captured": True,
        "amount_captured": charge["amount"],
        "outcome": {"network_status": "approved_by_network", "type": "authorized"},
    }
    intent |= {"status": "succeeded", "amount_received": intent["amount"]}
    session["payment_status"] = "paid"
    account.emit("charge.succeeded", charge)
    account.emit("payment_intent.succeeded", intent)
