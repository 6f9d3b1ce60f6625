"""The parameters of every simulated call; any other is refused as unknown."""

from sandbox.stripe.parameters import (
    Check,
    Fields,
    boolean,
    choice,
    each,
    integer,
    mail_address,
    metadata,
    text,
    web_address,
)

SECONDS_MAXIMUM = 10**11

seconds = integer(0, SECONDS_MAXIMUM)
expand = each(text(200), 20)


def _created(path: str, value: object) -> dict[str, int]:
    """A time, or a range of times."""
    if isinstance(value, dict):
        bounds = Fields(dict.fromkeys(("gt", "gte", "lt", "lte"), seconds))
        return bounds(path, value)
    moment: int = seconds(path, value)
    return {"gte": moment, "lte": moment}


def _list(**filters: Check) -> Fields:
    paging = {
        "limit": integer(1, 100),
        "starting_after": text(),
        "ending_before": text(),
        "expand": expand,
    }
    return Fields({**paging, **filters})


PRODUCT_DATA = Fields(
    {
        "name": text(),
        "description": text(),
        "metadata": metadata,
        "images": each(web_address, 8),
        "tax_code": text(),
    },
    required=["name"],
)

PRICE_DATA = Fields(
    {
        "currency": text(3),
        "product_data": PRODUCT_DATA,
        "unit_amount": integer(0),
        "tax_behavior": choice("exclusive", "inclusive", "unspecified"),
    },
    required=["currency", "product_data", "unit_amount"],
)

LINE_ITEM = Fields(
    {"price_data": PRICE_DATA, "quantity": integer(1, 999_999)}, required=["price_data", "quantity"]
)

PAYMENT_INTENT_DATA = Fields(
    {
        "metadata": metadata,
        "description": text(1000),
        "receipt_email": mail_address,
        "statement_descriptor": text(22),
        "statement_descriptor_suffix": text(22),
    }
)

INVOICE_CREATION = Fields(
    {
        "enabled": boolean,
        "invoice_data": Fields(
            {"description": text(), "footer": text(), "metadata": metadata},
        ),
    },
    required=["enabled"],
)

MESSAGE = Fields({"message": text(1200)}, required=["message"])

CUSTOM_TEXT = Fields(
    dict.fromkeys(
        ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance"), MESSAGE
    )
)

CREATE_SESSION = Fields(
    {
        "mode": choice("payment"),
        "line_items": each(LINE_ITEM),
        "success_url": web_address,
        "cancel_url": web_address,
        "client_reference_id": text(200),
        "customer_email": mail_address,
        "customer_creation": choice("always", "if_required"),
        "expires_at": seconds,
        "metadata": metadata,
        "payment_intent_data": PAYMENT_INTENT_DATA,
        "allowed_payment_method_types": each(text(), 20),
        "submit_type": choice("auto", "book", "donate", "pay"),
        "locale": text(10),
        "adaptive_pricing": Fields({"enabled": boolean}),
        "allow_promotion_codes": boolean,
        "automatic_tax": Fields({"enabled": boolean}, required=["enabled"]),
        "consent_collection": Fields({"terms_of_service": choice("none", "required")}),
        "custom_text": CUSTOM_TEXT,
        "invoice_creation": INVOICE_CREATION,
        "tax_id_collection": Fields(
            {"enabled": boolean, "required": choice("if_supported", "never")}, required=["enabled"]
        ),
        "billing_address_collection": choice("auto", "required"),
        "expand": expand,
    },
    required=["mode", "line_items", "success_url"],
)

LIST_SESSIONS = _list(
    created=_created,
    customer_details=Fields({"email": mail_address}, required=["email"]),
    payment_intent=text(),
    status=choice("complete", "expired", "open"),
)

LIST_EVENTS = _list(created=_created, type=text(), types=each(text(), 20), delivery_success=boolean)

CREATE_REFUND = Fields(
    {
        "charge": text(),
        "payment_intent": text(),
        "amount": integer(1),
        "reason": choice("duplicate", "fraudulent", "requested_by_customer"),
        "metadata": metadata,
        "expand": expand,
    }
)

LIST_REFUNDS = _list(created=_created, charge=text(), payment_intent=text())

LIST_DISPUTES = _list(created=_created, charge=text(), payment_intent=text())

LIST_FRAUD_WARNINGS = _list(created=_created, charge=text(), payment_intent=text())

LIST_CHARGES = _list(created=_created, payment_intent=text())

LIST_PAYMENT_INTENTS = _list(created=_created)

ONLY_EXPAND = Fields({"expand": expand})
