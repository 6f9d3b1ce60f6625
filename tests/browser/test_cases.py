"""Payment cases in a browser: each choice with its amount, and the link to claim a refund."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from sandbox.process import wait_until
from tests.browser.customer import Customer
from tests.browser.operators import Operator
from tests.browser.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LONG_AGO = 1_700_000_000


def pay_in_bitcoin(customer: Customer, pack: str, share: str, *, in_time: bool = True) -> str:
    """Order a pack, pay a share of its price, and return the invoice's id once it is a case."""
    invoice = customer.go_to_pay(pack, "Pay with Bitcoin").rpartition("/")[2]
    customer.site.switch("btcpay", "pay", invoice_id=invoice, share=share, method="BTC-LN")
    if not in_time:
        customer.site.switch("btcpay", "alter", id=invoice, fields={"expires": LONG_AGO})
        customer.site.switch("btcpay", "advance", seconds=0)
    wait_until(lambda: bool(case_of(customer.site, invoice)), 30, "the case")
    return invoice


def case_of(site: Site, invoice: str) -> list[dict[str, Any]]:
    return site.books.rows(
        "SELECT c.*, b.paid_tokens, o.number FROM payment_cases c"
        " JOIN orders o ON o.id = c.order_id JOIN balances b ON b.user_id = o.user_id"
        " WHERE c.checkout_id = :invoice ORDER BY c.id",
        invoice=invoice,
    )


def decide(operator: Operator, invoice: str, label: str) -> Page:
    """Decide an invoice's newest case in the panel; return the page of the decided case."""
    page, case = operator.page, case_of(operator.site, invoice)[-1]
    page.get_by_role("link", name="Overview", exact=True).click()
    page.get_by_role("link", name="payment case").click()
    choice = page.get_by_role("link", name=f"{label}… case {case['id']}", exact=True)
    choice.click()
    expect(page.get_by_role("heading", name=f"{label}?")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text(case["number"])
    page.get_by_label("Reason").fill("as agreed by email")
    page.get_by_role("button", name=label, exact=True).click()
    expect(page.get_by_role("status")).to_contain_text(f"Case {case['id']} was decided.")
    expect(page.get_by_role("main")).to_contain_text("as agreed by email")
    return page


def test_a_part_payment_is_credited_refunded_or_dismissed(
    customer: Customer, operator: Operator
) -> None:
    first, second, third = (
        pay_in_bitcoin(customer, name, "0.5", in_time=False)
        for name in ("starter", "standard", "pro")
    )
    decide(operator, first, "Credit 5,000,000 tokens")
    assert case_of(operator.site, first)[0]["paid_tokens"] == 5_000_000
    page = decide(operator, second, "Refund $1.00")
    refunds = page.get_by_role("region", name="Refunds of this case")
    expect(refunds).to_contain_text("offered, not claimed yet")
    # The back button leads to the confirmation, which has nothing left to confirm.
    operator.watch.allow(400)
    page.go_back()
    expect(page.get_by_role("main")).to_contain_text("This case has already been decided.")
    page.goto(f"{operator.site.url}/admin")
    decide(operator, third, "Dismiss and keep $3.00")
    assert case_of(operator.site, third)[0]["paid_tokens"] == 5_000_000

    # The credited part turns out to be invalid.
    customer.site.switch("btcpay", "mark", invoice_id=first, status="Invalid")
    wait_until(lambda: len(case_of(customer.site, first)) == 2, 30, "the second case")
    decide(operator, first, "Take back 5,000,000 tokens")
    assert case_of(operator.site, first)[0]["paid_tokens"] == 0


@pytest.mark.parametrize("scripts", [True])
def test_a_surplus_is_credited_or_refunded(customer: Customer, operator: Operator) -> None:
    first, second, third = (
        pay_in_bitcoin(customer, name, "1.5") for name in ("starter", "standard", "pro")
    )
    decide(operator, first, "Credit the surplus, 2,500,000 tokens")
    assert case_of(operator.site, first)[0]["paid_tokens"] == 132_500_000
    decide(operator, third, "Refund all, $9.00")
    assert case_of(operator.site, third)[0]["paid_tokens"] == 32_500_000

    # Of the last one the customer gets a link, which the operator copies.
    operator.allow_clipboard()
    page = decide(operator, second, "Refund the surplus, $1.00")
    number = case_of(operator.site, second)[0]["number"]
    [refund] = operator.site.books.rows(
        "SELECT r.* FROM payment_reversals r JOIN orders o ON o.id = r.order_id"
        " WHERE o.number = :number",
        number=number,
    )
    page.get_by_role("button", name="Copy the link to claim $1.00").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == refund["link"]
    page.get_by_role("link", name="Overview", exact=True).click()
    page.get_by_role("link", name="Bitcoin refund").click()
    waiting = page.get_by_role("region", name="Refunds on their way, table").get_by_role("row")
    expect(waiting.filter(has_text=number)).to_contain_text("offered, not claimed yet")
    expect(waiting.filter(has_text=number)).to_contain_text(refund["link"])

    claim(customer, refund["link"])
    waiting.get_by_role("link", name=number).click()
    page.get_by_role("button", name="Check with BTCPay now").click()
    refunds = page.get_by_role("region", name="Refunds and disputes, table")
    expect(refunds).to_contain_text("claimed: approve the payout in BTCPay")
    operator.site.switch("btcpay", "pay-out", pull_payment_id=refund["provider_id"])
    page.get_by_role("button", name="Check with BTCPay now").click()
    expect(refunds).to_contain_text("succeeded")
    page.goto(f"{operator.site.url}/admin/cases")
    expect(page.get_by_role("heading", name="Cases")).to_be_visible()
    expect(waiting.filter(has_text=number)).to_have_count(0)


def claim(customer: Customer, link: str) -> None:
    """Follow the link of a Bitcoin refund, as the customer, and enter where the money goes."""
    page = customer.stranger()
    page.goto(link)
    page.get_by_role("textbox").fill("lnbc1refund")
    page.get_by_role("button").click()
    page.context.close()
