"""Purchases in a browser without scripts: dashboard, provider's page, and back."""

import pytest
from playwright.sync_api import expect

from sandbox.process import wait_until
from tests.browser.customer import Customer

pytestmark = pytest.mark.browser

PURCHASES = [
    ("starter", "Pay by card", "Pay 0.50", "card", 5_000_000, "$0.50"),
    ("standard", "Pay with Bitcoin", "Pay with Lightning", "Bitcoin", 25_000_000, "$2.00"),
]

INCOMPLETE = "Your promptly payment is not complete yet"


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


@pytest.mark.slow
def test_bitcoin_that_is_half_paid(customer: Customer) -> None:
    invoice = customer.go_to_pay("standard", "Pay with Bitcoin")
    customer.pay("Pay half")
    page = customer.page
    page.click("text=Return to the shop")
    page.wait_for_selector("h1:has-text('$1.00 of $2.00 has arrived')")
    said = " ".join(page.inner_text("main").split())
    assert "$1.00 (0.00001000 BTC) is still due, until 20" in said and "left." in said
    # The mail says the same, and leads here.
    mail = customer.site.wait_for_mail(customer.address, INCOMPLETE)
    assert "$1.00 of $2.00" in " ".join(mail.split()) and page.url.partition("?")[0] in mail
    assert customer.history()[0][:2] == ["partly paid", "0"]
    # Every way leads to the same invoice: the button, and the pack on the dashboard.
    assert customer.go_to_pay("standard", "Pay with Bitcoin") == invoice
    page.goto(mail.split("exact amount:")[1].split()[0])
    page.get_by_role("link", name="Pay the rest").click()
    assert page.url == invoice
    customer.pay("Pay half")
    page.wait_for_selector("h1:has-text('Your payment is on its way')")
    assert len(customer.history()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("pack", "button", "pay"), [purchase[:3] for purchase in PURCHASES])
def test_double_clicks_and_the_back_button(
    customer: Customer, pack: str, button: str, pay: str
) -> None:
    page = customer.page
    page.goto(f"{customer.site.url}/dashboard")
    page.dblclick(f".packs li:has-text('{pack}') >> text={button}")
    page.wait_for_selector(f"button:has-text('{pay}')")
    first = page.url
    page.go_back()
    page.wait_for_selector("h1:has-text('Dashboard')")
    page.click(f".packs li:has-text('{pack}') >> text={button}")
    page.wait_for_selector(f"button:has-text('{pay}')")
    assert page.url == first
    customer.pay(pay)
    page.wait_for_selector("h1:has-text('Payment received')")
    # Back to the provider's page and on to ours, and a reload: the purchase stays the only one.
    page.go_back()
    page.go_forward()
    page.wait_for_selector("h1:has-text('Payment received')")
    page.reload()
    page.wait_for_selector("h1:has-text('Payment received')")
    assert [row[0] for row in customer.history()] == ["paid"]


@pytest.mark.slow
def test_a_payment_on_its_way_and_the_same_pack_again(customer: Customer) -> None:
    customer.site.switch("btcpay", "rules", action="drop")
    first = customer.go_to_pay("standard", "Pay with Bitcoin")
    customer.pay("Pay on-chain")
    page = customer.page
    page.wait_for_selector("h1:has-text('Your payment is on its way')")
    page.goto(f"{customer.site.url}/dashboard")
    page.click(".packs li:has-text('standard') >> text=Pay with Bitcoin")
    assert "led you to this purchase" in page.inner_text("main")
    assert len(customer.history()) == 1
    page.click(".packs li:has-text('standard') >> text=Pay with Bitcoin")
    page.click("text=Buy it once more")
    page.wait_for_selector("button:has-text('Pay with Lightning')")
    assert page.url != first and len(customer.history()) == 2


@pytest.mark.slow
def test_a_receipt_to_print(customer: Customer) -> None:
    customer.go_to_pay("pro", "Pay by card")
    customer.pay("Pay 6.00")
    page = customer.page
    page.wait_for_selector("h1:has-text('Payment received')")
    page.get_by_role("link", name="Receipt").click()
    said = " ".join(page.inner_text("main").split())
    number = page.url.split("/")[-2]
    for words in ("Token Works Ltd 1 Mill Lane Ely Tax ID: GB123456789", number, customer.address,
                  "100,000,000 tokens", "Total paid $6.00", "test mode"):  # fmt: skip
        assert words in said
    page.emulate_media(media="print")
    expect(page.get_by_role("banner")).to_be_hidden()
    expect(page.get_by_role("link", name="All purchases")).to_be_hidden()
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    page.emulate_media(media="screen")
    wait_for_receipt(customer, "pro")
    assert page.url in customer.receipts()[0]
    # From the list of purchases it is one click away.
    page.goto(f"{customer.site.url}/purchases")
    page.get_by_role("link", name=f"Receipt of {number}").click()
    assert page.url.endswith(f"/purchases/{number}/receipt")


@pytest.mark.slow
def test_an_amount_of_the_customers_choice(customer: Customer) -> None:
    customer.watch.allow(400)
    page = customer.page
    page.goto(f"{customer.site.url}/dashboard")
    page.get_by_label("Amount in USD").fill("7,50")
    page.get_by_role("button", name="Pay by card for this amount").click()
    expect(page.get_by_label("Amount in USD")).to_have_value("7,50")
    expect(page.get_by_role("alert")).to_have_text(
        "The amount must be a number in USD, such as 1.00."
    )
    page.get_by_label("Amount in USD").fill("7.50")
    page.get_by_role("button", name="Pay by card for this amount").click()
    assert "custom: 125,000,000 tokens" in page.inner_text("main")
    customer.pay("Pay 7.50")
    page.wait_for_selector("h1:has-text('Payment received')")
    assert customer.history()[0] == ["paid", "+125,000,000", "custom", "card"]
    assert "$7.50, by card" in wait_for_receipt(customer, "custom")
