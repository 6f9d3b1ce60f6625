"""Purchases in a browser without scripts: dashboard, provider's page, and back."""

import pytest

from sandbox.process import wait_until
from tests.browser.customer import Customer

pytestmark = pytest.mark.browser

PURCHASES = [
    ("starter", "Pay by card", "Pay 0.50", "card", 5_000_000, "$0.50"),
    ("standard", "Pay with Bitcoin", "Pay with Lightning", "Bitcoin", 25_000_000, "$2.00"),
]


def receipt_of(customer: Customer, pack: str) -> str:
    return next((text for text in customer.receipts() if pack in text), "")


def wait_for_receipt(customer: Customer, pack: str) -> str:
    wait_until(lambda: bool(receipt_of(customer, pack)), 10, "the receipt")
    return receipt_of(customer, pack)


@pytest.mark.alone
def test_a_payment_shows_within_seconds(customer: Customer) -> None:
    available = 100_000
    for pack, button, pay, way, tokens, price in PURCHASES:
        customer.go_to_pay(pack, button)
        customer.pay(pay)
        assert customer.page.url.startswith(f"{customer.site.url}/checkout/P-")
        # The page reloads itself until the payment is credited.
        customer.page.wait_for_selector("h1:has-text('Payment received')")
        available += tokens
        assert f"now {available:,} tokens" in " ".join(customer.page.inner_text("main").split())
        assert customer.balance() == f"{available:,}"
        assert customer.history()[0] == ["paid", f"+{tokens:,}", pack, way]
        receipt = wait_for_receipt(customer, pack)
        for said in ("P-", f"{tokens:,} tokens", price, f"{available:,} tokens"):
            assert said in receipt
    assert len(customer.history()) == len(customer.receipts()) == 2


@pytest.mark.slow
def test_a_payment_while_webhooks_are_lost(customer: Customer) -> None:
    """Pay in another browser, whose return triggers no check: reconciliation credits it."""
    for pack, button, pay, _, _, _ in PURCHASES:
        customer.site.switch(
            "stripe" if button == "Pay by card" else "btcpay", "rules", action="drop"
        )
        stranger = customer.stranger()
        stranger.goto(customer.go_to_pay(pack, button))
        customer.pay(pay, stranger)
        assert "You are not signed in here" in stranger.inner_text("h1")
        assert "P-" not in stranger.inner_text("main")
        stranger.context.close()
    assert [row[0] for row in customer.history()] == ["waiting for payment"] * 2
    assert customer.balance() == "100,000" and customer.receipts() == []
    customer.site.project.flask("payments", "reconcile")
    assert customer.balance() == "30,100,000"
    assert customer.history() == [
        ["paid", f"+{tokens:,}", pack, way] for pack, _, _, way, tokens, _ in reversed(PURCHASES)
    ]
    wait_until(lambda: len(customer.receipts()) == 2, 10, "both receipts")
    customer.site.project.flask("payments", "reconcile")
    assert customer.balance() == "30,100,000"
    customer.site.project.flask("ledger", "verify")


@pytest.mark.slow
def test_leaving_the_providers_page_and_going_on(customer: Customer) -> None:
    customer.go_to_pay("pro", "Pay by card")
    customer.page.click("text=Cancel")
    assert "Payment not completed" in customer.page.inner_text("h1")
    customer.page.click("text=Continue to payment")
    customer.pay("Pay 6.00")
    customer.page.wait_for_selector("h1:has-text('Payment received')")
    assert customer.balance() == "100,100,000"


@pytest.mark.slow
def test_bitcoin_that_is_seen_and_not_confirmed(customer: Customer) -> None:
    customer.go_to_pay("standard", "Pay with Bitcoin")
    customer.pay("Pay on-chain")
    customer.page.wait_for_selector("h1:has-text('Your payment is on its way')")
    assert customer.balance() == "100,000"
    assert customer.history()[0][0] == "payment on its way"


@pytest.mark.slow
@pytest.mark.parametrize("scripts", [True])
def test_a_page_that_waits_follows_by_itself(customer: Customer) -> None:
    customer.go_to_pay("standard", "Pay with Bitcoin")
    customer.pay("Pay on-chain")
    page = customer.page
    page.wait_for_selector("h1:has-text('Your payment is on its way')")
    page.evaluate("() => { window.isTheSamePage = true; }")
    # The simulated network confirms the payment after ten seconds.
    page.wait_for_selector("h1:has-text('Payment received')", timeout=60_000)
    assert page.title().startswith("Payment received")
    assert page.evaluate("() => window.isTheSamePage")


@pytest.mark.slow
def test_a_provider_that_fails(customer: Customer) -> None:
    customer.watch.allow(503)
    customer.site.switch("stripe", "faults", route="POST /v1/checkout/sessions", status=500)
    try:
        customer.page.goto(f"{customer.site.url}/dashboard")
        with customer.page.expect_response("**/checkout") as answer:
            customer.page.click(".packs li:has-text('starter') >> text=Pay by card")
        assert answer.value.status == 503
        assert "could not be started" in customer.page.inner_text("h1")
    finally:
        customer.site.switch("stripe", "faults/clear")
    customer.page.click("button:has-text('Try again')")
    customer.pay("Pay 0.50")
    customer.page.wait_for_selector("h1:has-text('Payment received')")
    assert len(customer.history()) == 1
