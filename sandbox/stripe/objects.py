"""Stripe's objects as its API shows them, with every field of this API version.

Times are Unix seconds, amounts are in the smallest unit of the currency.
"""

from typing import Any

from sandbox.stripe.ids import new_id, session_id, token

Object = dict[str, Any]

API_VERSION = "2026-10-28.endive"
SESSION_SECONDS = 24 * 3600

# Minimum charge by currency; other currencies are refused.
MINIMUM = {"usd": 50, "eur": 50, "gbp": 30, "chf": 50, "cad": 50, "aud": 50, "sek": 300}

# Fields that are present but null in a session for a one-time payment.
_EMPTY_IN_SESSIONS = (
    "after_expiration", "allow_promotion_codes",
    "billing_address_collection", "branding_settings", "cancel_url", "client_reference_id",
    "client_secret", "collected_information", "consent", "consent_collection",
    "currency_conversion", "customer", "customer_account", "customer_details", "customer_email",
    "discounts", "excluded_payment_method_types", "integration_identifier", "invoice",
    "invoice_creation", "locale", "managed_payments", "name_collection", "optional_items",
    "origin_context", "payment_intent", "payment_link", "payment_method_configuration_details",
    "permissions", "phone_number_collection", "presentment_details", "recovered_from",
    "redirect_on_completion", "return_url", "saved_payment_method_options", "setup_intent",
    "shipping_address_collection", "shipping_cost", "submit_type", "subscription",
    "tax_id_collection", "wallet_options",
)  # fmt: skip

_EMPTY_IN_INTENTS = (
    "amount_details", "application", "application_fee_amount", "automatic_payment_methods",
    "canceled_at", "cancellation_reason", "customer", "customer_account", "description",
    "excluded_payment_method_types", "hooks", "last_payment_error", "latest_charge",
    "managed_payments", "next_action", "on_behalf_of", "payment_details", "payment_record",
    "payment_method_configuration_details", "presentment_details", "processing", "receipt_email",
    "review", "setup_future_usage", "shipping", "source", "statement_descriptor",
    "statement_descriptor_suffix", "transfer_data", "transfer_group",
    "allowed_payment_method_types",
)  # fmt: skip

_EMPTY_IN_CHARGES = (
    "application", "application_fee", "application_fee_amount", "authorization_code",
    "balance_transaction", "customer", "description", "failure_balance_transaction",
    "failure_code", "failure_message", "fraud_details", "on_behalf_of", "presentment_details",
    "radar_options", "receipt_email", "receipt_number", "receipt_url", "review", "shipping",
    "source", "source_transfer", "statement_descriptor", "statement_descriptor_suffix",
    "transfer", "transfer_data", "transfer_group",
)  # fmt: skip

_EMPTY_IN_REFUNDS = (
    "balance_transaction", "customer", "customer_account", "description",
    "failure_balance_transaction", "failure_reason", "instructions_email", "next_action",
    "payment_method", "pending_reason", "presentment_details", "receipt_number",
    "source_transfer_reversal", "transfer_reversal",
)  # fmt: skip


def session(params: Object, amount: int, currency: str, now: int, livemode: bool) -> Object:
    """Return a new Checkout Session. Its ``url`` is added when it is shown."""
    return {
        **dict.fromkeys(_EMPTY_IN_SESSIONS),
        "id": session_id(livemode),
        "object": "checkout.session",
        "adaptive_pricing": params.get("adaptive_pricing", {"enabled": False}),
        "amount_subtotal": amount,
        "amount_total": amount,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "cancel_url": params.get("cancel_url"),
        "consent_collection": params.get("consent_collection"),
        "invoice_creation": params.get("invoice_creation"),
        "tax_id_collection": params.get("tax_id_collection"),
        "client_reference_id": params.get("client_reference_id"),
        "created": now,
        "currency": currency,
        "custom_fields": [],
        "custom_text": dict.fromkeys(
            ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")
        ),
        "customer_creation": params.get("customer_creation", "if_required"),
        "customer_details": customer_details(params.get("customer_email")),
        "customer_email": params.get("customer_email"),
        "expires_at": params.get("expires_at", now + SESSION_SECONDS),
        "livemode": livemode,
        "metadata": params.get("metadata", {}),
        "mode": "payment",
        "payment_method_collection": "if_required",
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "allowed_payment_method_types": params.get("allowed_payment_method_types"),
        "payment_method_types": params.get("allowed_payment_method_types", ["card"]),
        "payment_status": "unpaid",
        "shipping_options": [],
        "status": "open",
        "success_url": params["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": None,
    }


def customer_details(email: str | None) -> Object | None:
    """Return a session's data about the customer; None without an email address."""
    if email is None:
        return None
    empty = ("address", "business_name", "individual_name", "name", "phone", "tax_ids")
    return {**dict.fromkeys(empty), "email": email, "tax_exempt": "none"}


def payment_intent(of: Object, data: Object, method: str, now: int) -> Object:
    """Return the PaymentIntent of a session that is being completed."""
    intent_id = new_id("pi_3")
    return {
        **dict.fromkeys(_EMPTY_IN_INTENTS),
        "id": intent_id,
        "object": "payment_intent",
        "amount": of["amount_total"],
        "amount_capturable": 0,
        "amount_received": 0,
        "capture_method": "automatic_async",
        "client_secret": f"{intent_id}_secret_{token(25)}",
        "confirmation_method": "automatic",
        "created": now,
        "currency": of["currency"],
        "description": data.get("description"),
        "livemode": of["livemode"],
        "metadata": data.get("metadata", {}),
        "payment_method": new_id("pm_1"),
        "payment_method_options": {},
        "payment_method_types": [method],
        "receipt_email": data.get("receipt_email"),
        "status": "processing",
    }


def charge(intent: Object, method: str, email: str | None, now: int) -> Object:
    """Return the charge of a PaymentIntent, still pending."""
    details = {"type": method, method: {}}
    return {
        **dict.fromkeys(_EMPTY_IN_CHARGES),
        "id": new_id("ch_3") if method == "card" else new_id("py_3"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "billing_details": {
            **dict.fromkeys(("address", "name", "phone", "tax_id")),
            "email": email,
        },
        "calculated_statement_descriptor": "PROMPTLY SANDBOX",
        "captured": False,
        "created": now,
        "currency": intent["currency"],
        "disputed": False,
        "livemode": intent["livemode"],
        "metadata": intent["metadata"],
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": intent["payment_method"],
        "payment_method_details": details,
        "refunded": False,
        "status": "pending",
    }


def refund(of: Object, amount: int, params: Object, status: str, now: int) -> Object:
    """Return a refund of a charge."""
    return {
        **dict.fromkeys(_EMPTY_IN_REFUNDS),
        "id": new_id("re_3"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": new_id("txn_3"),
        "charge": of["id"],
        "created": now,
        "currency": of["currency"],
        "destination_details": {"type": "card", "card": {"type": "refund"}},
        "metadata": params.get("metadata", {}),
        "payment_intent": of["payment_intent"],
        "reason": params.get("reason"),
        "status": status,
    }


def dispute(of: Object, amount: int, status: str, now: int) -> Object:
    """Return a dispute about a charge."""
    return {
        "id": new_id("dp_1"),
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": of["id"],
        "created": now,
        "currency": of["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {},
        "evidence_details": {
            "due_by": now + 7 * 24 * 3600,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": None,
        },
        "intended_submission_method": None,
        "is_charge_refundable": status.startswith("warning_"),
        "livemode": of["livemode"],
        "metadata": {},
        "network_reason_code": None,
        "payment_intent": of["payment_intent"],
        "payment_method_details": {"type": "card", "card": {"brand": "visa"}},
        "reason": "fraudulent",
        "status": status,
    }


def early_fraud_warning(of: Object, now: int) -> Object:
    """Return an issuer's warning about a charge."""
    return {
        "id": new_id("issfr_1"),
        "object": "radar.early_fraud_warning",
        "actionable": not of["refunded"] and not of["disputed"],
        "charge": of["id"],
        "created": now,
        "fraud_type": "unauthorized_use_of_card",
        "livemode": of["livemode"],
        "payment_intent": of["payment_intent"],
    }
