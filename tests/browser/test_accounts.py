"""An account from registration to deletion, in a browser with and without scripts."""

import csv
import re

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from tests.browser.customer import Customer
from tests.browser.site import KEY

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BOTH = pytest.mark.parametrize("scripts", [False, True], ids=["plain", "scripts"])
CONFIRMATION = "Confirm the deletion of your promptly account"


def row(page: Page, table: str, text: str | re.Pattern[str]) -> Locator:
    """Return the row with this text in a region's table."""
    return page.get_by_role("region", name=table).get_by_role("row").filter(has_text=text)


def figure(page: Page, name: str) -> str:
    """Return the text of a named entry in a list of figures, in one line."""
    shown = page.locator("dl div").filter(has=page.locator("dt", has_text=re.compile(f"^{name}$")))
    return " ".join(shown.locator("dd").first.inner_text().split())


@BOTH
def test_from_registration_to_the_first_receipt(visitor: Customer, scripts: bool) -> None:
    visitor.register()
    visitor.sign_in()
    page = visitor.page
    assert figure(page, "Available").startswith("100,000")
    expect(page.get_by_text("No requests yet")).to_be_visible()

    answer = visitor.site.ask(visitor.key)
    if not scripts:
        page.reload()
    # With scripts the open page refreshes itself.
    receipts = page.get_by_role("region", name="Recent requests").get_by_role("row")
    expect(receipts).to_have_count(2, timeout=40_000)
    spent = answer["usage"]["total_tokens"]
    assert figure(page, "Available").startswith(f"{100_000 - spent:,}")
    expect(row(page, "Keys", "default")).not_to_contain_text("never")

    receipts.last.get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    assert page.url == f"{visitor.site.url}/dashboard/requests/{answer['request_id']}"
    assert figure(page, "Charged").startswith(f"{spent:,} ")
    assert figure(page, "Completion").startswith("12 ")
    assert figure(page, "Balance after").startswith(f"{100_000 - spent:,}")


@BOTH
def test_a_key_is_made_used_and_revoked(customer: Customer) -> None:
    page = customer.page
    page.get_by_label("Name of the new key").fill("build server")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("heading", name="Your new key")).to_be_visible()
    found = KEY.search(page.inner_text("main"))
    assert found is not None
    key = found.group()
    customer.site.ask(key)

    page.get_by_role("link", name="Back to the dashboard").click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
    # The key is shown only once.
    assert key not in page.content() and key[:12] in page.content()
    row(page, "Keys", "build server").get_by_role("link", name="Revoke").click()
    page.get_by_role("button", name="Revoke key").click()
    expect(page.get_by_role("status").filter(has_text="revoked")).to_be_visible()
    expect(row(page, "Keys", "build server")).to_have_count(0)
    expect(row(page, "Keys", "default")).to_have_count(1)
    refused = requests.get(
        f"{customer.site.url}/v1/balance", headers={"Authorization": f"Bearer {key}"}, timeout=10
    )
    assert refused.status_code == 401


def test_a_name_with_markup_is_escaped(customer: Customer) -> None:
    page = customer.page
    page.get_by_label("Name of the new key").fill("<b>bold</b>")
    page.get_by_role("button", name="Create key").click()
    page.get_by_role("link", name="Back to the dashboard").click()
    expect(row(page, "Keys", "<b>bold</b>")).to_have_count(1)


@BOTH
def test_the_export_adds_up_to_the_balance(customer: Customer) -> None:
    for _ in range(3):
        customer.site.ask(customer.key)
    page = customer.page
    page.reload()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    assert download.value.suggested_filename.endswith(".csv")
    with open(download.value.path(), newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    assert len([line for line in rows if line["request_id"]]) == 3
    balances = [int(line["balance"]) for line in rows]
    changes = [int(line["change"] or 0) for line in rows]
    assert balances == [sum(changes[: number + 1]) for number in range(len(rows))]
    assert balances[-1] == int(figure(page, "Available").split()[0].replace(",", ""))


def test_choosing_what_is_mailed(customer: Customer) -> None:
    page = customer.page
    page.get_by_label("Low-balance threshold").fill("75,000")
    page.get_by_label("Email me one day before my trial ends").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="Saved")).to_be_visible()
    page.goto(f"{customer.site.url}/dashboard")
    expect(page.get_by_label("Low-balance threshold")).to_have_value("75,000")
    expect(page.get_by_label("Email me one day before my trial ends")).not_to_be_checked()


def test_a_wrong_number_is_explained(customer: Customer) -> None:
    customer.watch.allow(400)
    page = customer.page
    page.get_by_label("Low-balance threshold").fill("a few")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("Enter a number")
    expect(page.get_by_label("Low-balance threshold")).to_have_value("a few")


@BOTH
def test_an_account_goes_when_its_owner_has_confirmed_it_by_mail(customer: Customer) -> None:
    site, page = customer.site, customer.page
    page.get_by_role("link", name="Delete my account").click()
    page.get_by_role("button", name="Email me a confirmation link").click()
    expect(page.get_by_role("heading", name="Check your email")).to_be_visible()
    link = re.search(rf"{site.url}\S+", site.wait_for_mail(customer.address, CONFIRMATION))
    assert link is not None
    # Neither the mail nor following its link deletes anything.
    page.goto(link.group())
    site.ask(customer.key)
    page.get_by_role("button", name="Delete the account").click()
    expect(page.get_by_role("heading", name="Your account has been deleted")).to_be_visible()
    page.goto(f"{site.url}/dashboard")
    assert page.url == f"{site.url}/"
    assert site.books.rows("SELECT 1 FROM users WHERE email = :a", a=customer.address) == []

    # The same address can register again, but gets no second trial.
    customer.watch.allow(401)
    customer.register()
    customer.sign_in()


def test_a_key_in_the_url_leaves_no_trace(customer: Customer, scripts: bool) -> None:
    customer.watch.allow(401)
    page = customer.page
    page.get_by_role("button", name="Sign out").click()
    assert page.url == f"{customer.site.url}/"
    page.goto(f"{customer.site.url}/dashboard?key={customer.key}")
    assert page.url == f"{customer.site.url}/dashboard"
    page.go_back()
    assert page.url == f"{customer.site.url}/"
