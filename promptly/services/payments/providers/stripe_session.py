"""The parameters of a Stripe Checkout session.

They state whatever an account's dashboard may set by default, so that no default changes a price.
"""

from stripe.params.checkout import SessionCreateParams

from promptly.services.payments.providers.base import OrderFacts
from promptly.settings import Settings

# The keys of our metadata. Unlike `client_reference_id`, which a payment link takes from its URL,
# metadata can only be set with our API key.
ORDER_KEY = "promptly_order"
INSTANCE_KEY = "promptly_instance"

# Stripe's code for electronically supplied services.
TAX_CODE = "txcd_10000000"


def session_params(
    order: OrderFacts, return_url: str, email: str | None, settings: Settings
) -> SessionCreateParams:
    """Return the parameters of an order's session: one item at the order's fixed price."""
    taxed = settings.checkout_tax == "inclusive"
    metadata = {ORDER_KEY: order.number, INSTANCE_KEY: order.instance_id}
    params: SessionCreateParams = {
        "mode": "payment",
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": order.currency.lower(),
                    "unit_amount": order.amount_minor,
                    "product_data": {"name": f"{order.pack}: {order.tokens:,} tokens"},
                },
            }
        ],
        "client_reference_id": order.number,
        "metadata": metadata,
        # A charge has metadata of its own; through it, refunds and disputes name the order.
        "payment_intent_data": {"metadata": metadata, "description": f"promptly {order.number}"},
        # A price in the customer's own currency would no longer be the order's.
        "adaptive_pricing": {"enabled": False},
        # Without it, an account that adds taxes by default charges more than the price.
        "automatic_tax": {"enabled": taxed},
        "invoice_creation": {"enabled": settings.checkout_invoices},
        "expires_at": int(order.expires_at.timestamp()),
        "success_url": f"{return_url}?session_id={{CHECKOUT_SESSION_ID}}",
        "cancel_url": f"{return_url}?canceled=1",
    }
    if email is not None:
        params["customer_email"] = email
    if taxed:
        price = params["line_items"][0]["price_data"]
        price["tax_behavior"] = "inclusive"
        price["product_data"]["tax_code"] = TAX_CODE
    if taxed or settings.checkout_invoices:
        # Businesses need their tax id on the invoice, which Stripe takes from a customer object.
        params["tax_id_collection"] = {"enabled": True}
        params["customer_creation"] = "always"
    if settings.checkout_invoices:
        params["invoice_creation"] = {"enabled": True, "invoice_data": {"metadata": metadata}}
    if settings.terms_url:
        params["consent_collection"] = {"terms_of_service": "required"}
        message = f"I agree to the [terms of service]({settings.terms_url})."
        params["custom_text"] = {"terms_of_service_acceptance": {"message": message}}
    return params
