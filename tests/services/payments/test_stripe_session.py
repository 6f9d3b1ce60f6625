"""A session states its tax, invoice and terms, whatever the account's dashboard sets by default."""

from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from promptly.errors import PaymentRefused
from promptly.services.payments import checkout
from promptly.settings import Settings
from tests.services.payments.odd_invoices import deliver
from tests.support.shop import Json, Shop

SESSIONS = "POST /v1/checkout/sessions"
TERMS = "https://example.com/terms"
PRICE = 200


def start(shop: Shop, user_id: int, settings: Settings) -> Json:
    """Order a pack under these settings and return its session."""
    with shop.app.app_context():
        checkout.start(user_id, "standard", "stripe", settings)
    return shop.stripe.object(shop.orders(user_id)[-1]["checkout_id"])


def sent(shop: Shop) -> dict[str, str]:
    return dict(parse_qsl(shop.stripe.requests(SESSIONS)[-1]["body"]))


@pytest.mark.parametrize("default_percent", [0, 20])
@pytest.mark.parametrize("tax", ["off", "inclusive"])
def test_the_total_is_the_price(shop: Shop, tax: str, default_percent: int) -> None:
    shop.stripe.set_dashboard(default_tax_percent=default_percent)
    user_id = shop.account()
    session = start(shop, user_id, replace(shop.settings, checkout_tax=tax))
    assert (session["amount_total"], session["currency"]) == (PRICE, "usd")
    assert session["automatic_tax"]["enabled"] is (tax == "inclusive")
    # A fifth is added to the net price, so a sixth of the price is tax.
    assert session["total_details"]["amount_tax"] == (33 if tax == "inclusive" else 0)
    shop.stripe.pay(session["id"])
    deliver(shop)
    assert (shop.history(user_id), shop.cases()) == (["paid"], [])


def test_inclusive_tax_names_its_code_and_asks_for_tax_ids(shop: Shop) -> None:
    start(shop, shop.account(), replace(shop.settings, checkout_tax="inclusive"))
    given = sent(shop)
    price = "line_items[0][price_data]"
    assert given[f"{price}[tax_behavior]"] == "inclusive"
    assert given[f"{price}[product_data][tax_code]"].startswith("txcd_")
    assert (given["tax_id_collection[enabled]"], given["customer_creation"]) == ("true", "always")
    assert given["invoice_creation[enabled]"] == "false"


def test_invoices(shop: Shop) -> None:
    user_id = shop.account()
    start(shop, user_id, replace(shop.settings, checkout_invoices=True))
    given = sent(shop)
    [order] = shop.orders(user_id)
    assert given["invoice_creation[enabled]"] == given["tax_id_collection[enabled]"] == "true"
    invoice = "invoice_creation[invoice_data][metadata]"
    assert given[f"{invoice}[promptly_order]"] == order["number"]
    assert given["automatic_tax[enabled]"] == "false"


def test_terms_are_to_be_accepted(shop: Shop) -> None:
    start(shop, shop.account(), replace(shop.settings, terms_url=TERMS))
    given = sent(shop)
    assert given["consent_collection[terms_of_service]"] == "required"
    assert TERMS in given["custom_text[terms_of_service_acceptance][message]"]
    # Stripe refuses them unless its dashboard knows their page.
    shop.stripe.set_dashboard(has_terms=False)
    with pytest.raises(PaymentRefused):
        start(shop, shop.account(), replace(shop.settings, terms_url=TERMS))


def test_an_address_that_stripe_refuses_is_left_out(shop: Shop) -> None:
    user_id = shop.account()
    shop.rows("UPDATE users SET email = 'ada@localhost'")
    session = start(shop, user_id, shop.settings)
    assert (session["customer_email"], session["status"]) == (None, "open")
    first, second = shop.stripe.requests(SESSIONS)
    assert (first["status"], second["status"]) == (400, 200)
    assert first["headers"]["idempotency-key"] == second["headers"]["idempotency-key"]
