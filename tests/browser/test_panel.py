"""The operator's tasks in a browser with and without scripts, and their audit log entries."""

import re

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect

from promptly.models.states import MailState
from promptly.transactions import transaction
from tests.browser.operators import Operator
from tests.browser.site import Site
from tests.browser.watching import Watch
from tests.support import factories

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BOTH = pytest.mark.parametrize("scripts", [False, True], ids=["plain", "scripts"])


@pytest.fixture
def account(site: Site, request: pytest.FixtureRequest) -> tuple[str, str]:
    """Address and key of an account with 5,000 paid tokens."""
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    return site.open_account(f"{name}@example.com", paid_tokens=5_000)


def figure(page: Page, name: str) -> Locator:
    """Return the named entry of a list of figures."""
    return page.locator("dl div").filter(has=page.locator("dt", has_text=re.compile(f"^{name}$")))


def test_the_printed_link_leaves_no_key_behind(operator: Operator, site: Site) -> None:
    assert operator.page.url == f"{site.url}/admin"
    expect(operator.page.get_by_role("heading", name="Overview")).to_be_visible()
    assert site.admin_key not in operator.page.content()
    # Going back must not reach a URL with the key.
    operator.page.go_back()
    assert operator.page.url == "about:blank"


def test_signing_in_and_out(site: Site, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    watch = Watch(context, site.url)
    watch.allow(403)
    page = context.new_page()
    page.goto(f"{site.url}/admin/users")
    page.get_by_label("Admin key").fill("not this one")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Admin key").fill(site.admin_key)
    page.get_by_role("button", name="Sign in").click()
    # Signing in leads to the page requested first.
    expect(page.get_by_role("heading", name="Users")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{site.url}/admin/users")
    expect(page.get_by_label("Admin key")).to_be_visible()
    context.close()
    watch.check()


@BOTH
def test_accounts_are_searched_sorted_and_paged(
    operator: Operator, site: Site, scripts: bool
) -> None:
    crowd = f"crowd-{'scripted' if scripts else 'plain'}"
    with site.books.app.app_context(), transaction():
        for number in range(60):
            factories.user(f"{crowd}{number:03}@example.com", paid_tokens=number)
    page = operator.page
    page.get_by_role("link", name="Users", exact=True).click()
    first = page.get_by_role("region", name="Accounts").get_by_role("row").nth(1)
    newest = first.get_by_role("link").inner_text()
    page.get_by_role("link", name="Next").click()
    expect(first).not_to_contain_text(newest)
    page.get_by_role("link", name="Previous").click()
    expect(first).to_contain_text(newest)

    page.get_by_label("Search by email").fill(crowd)
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Balance").click()
    heading = page.get_by_role("columnheader", name="Balance")
    for direction, account in (("descending", "059"), ("ascending", "000")):
        expect(heading).to_have_attribute("aria-sort", direction)
        expect(first).to_contain_text(f"{crowd}{account}")
        page.get_by_role("link", name="Balance").click()

    page.get_by_label("Search by email").fill("nobody-has-this")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No email address contains")).to_be_visible()


@BOTH
def test_adjusting_a_balance(operator: Operator, account: tuple[str, str]) -> None:
    page = operator.open_account(account[0])
    page.get_by_label("Tokens").first.fill("1000")
    page.get_by_role("button", name="Adjust").click()
    # The confirmation names the account before anything happens.
    expect(page.get_by_role("main")).to_contain_text(account[0])
    page.get_by_role("button", name="Add 1,000 tokens").click()
    expect(page.get_by_role("status")).to_be_visible()
    expect(figure(page, "Paid")).to_contain_text("6,000")
    page.reload()
    expect(figure(page, "Paid")).to_contain_text("6,000")

    page.get_by_label("Tokens").first.fill("-50000")
    page.get_by_role("button", name="Adjust").click()
    page.get_by_role("button", name="Remove 50,000 tokens").click()
    expect(figure(page, "Paid")).to_contain_text("0")
    newest = operator.acts()[:2]
    assert all("adjust" in line and "127.0.0.1" in line for line in newest)
    assert "6,000 → 0" in newest[0] and "5,000 → 6,000" in newest[1]


def test_a_wrong_number_is_asked_for_again(operator: Operator, account: tuple[str, str]) -> None:
    operator.watch.allow(400)
    page = operator.open_account(account[0])
    page.get_by_label("Tokens").first.fill("plenty")
    page.get_by_role("button", name="Adjust").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Tokens").fill("7")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Add 7 tokens").click()
    expect(figure(page, "Paid")).to_contain_text("5,007")


@BOTH
def test_granting_trial_tokens(operator: Operator, account: tuple[str, str]) -> None:
    page = operator.open_account(account[0])
    form = page.locator("form").filter(has_text="Grant trial tokens")
    form.get_by_label("Tokens").fill("250000")
    form.get_by_label("Days").fill("14")
    form.get_by_role("button").click()
    page.get_by_role("button", name="Grant 250,000 tokens").click()
    expect(figure(page, "Trial")).to_contain_text("250,000")
    assert "grant" in operator.acts()[0]


@BOTH
def test_deleting_an_account(operator: Operator, site: Site, account: tuple[str, str]) -> None:
    address, key = account
    page = operator.open_account(address)
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", name=address)).to_be_visible()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name=f"Delete {address}").click()
    expect(page.get_by_role("status")).to_be_visible()
    refused = requests.get(
        f"{site.url}/v1/balance", headers={"Authorization": f"Bearer {key}"}, timeout=10
    )
    assert refused.status_code == 401
    newest = operator.acts()[0]
    # The audit entry does not record the deleted address.
    assert "delete" in newest and address not in newest


@BOTH
def test_handling_an_event_again(operator: Operator, site: Site, scripts: bool) -> None:
    [event] = site.books.rows(
        "INSERT INTO webhook_events (provider, event_id, type, object_id, state, reason)"
        " VALUES ('stripe', :name, 'checkout.session.completed', 'cs_unknown', 'parked',"
        " 'the provider does not know it') RETURNING id",
        name=f"evt_{scripts}",
    )
    page = operator.page
    page.get_by_role("link", name="Webhooks", exact=True).click()
    page.get_by_label("State").select_option(label="parked")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name=str(event["id"]), exact=True).click()
    page.get_by_role("button", name="Process again").click()
    expect(page.get_by_role("status")).to_be_visible()
    newest = operator.acts()[0]
    assert "replay" in newest and str(event["id"]) in newest


@BOTH
def test_sending_a_mail_again(operator: Operator, site: Site, account: tuple[str, str]) -> None:
    with site.books.app.app_context(), transaction():
        row = factories.mail("new_key", recipient=account[0])
        row.state, row.last_error = MailState.FAILED, "550 no such mailbox"
        found = site.books.rows("SELECT id FROM users WHERE email = :a", a=account[0])
        row.user_id = found[0]["id"]
        mail_id = row.id
    page = operator.page
    page.get_by_role("link", name="Email", exact=True).click()
    page.get_by_label("State").select_option(label="failed")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name=str(mail_id), exact=True).click()
    page.get_by_role("link", name="Send again").click()
    page.get_by_role("main").get_by_role("button").click()
    expect(page.get_by_role("status")).to_be_visible()
    assert site.wait_for_key(account[0])
    newest = operator.acts()[0]
    assert "resend" in newest and str(mail_id) in newest
