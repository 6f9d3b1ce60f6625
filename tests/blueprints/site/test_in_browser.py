"""The pages in a real browser: nothing blocked, nothing too wide, working forms."""

from typing import Literal

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page

from promptly.models.states import OrderState
from promptly.services.accounts import accounts, keys
from promptly.transactions import transaction
from tests.support import factories

pytestmark = pytest.mark.browser

PAGES = (
    "/", "/register", "/nowhere", "/purchases",
    "/dashboard", "/dashboard/requests", "/dashboard/delete",
    "/docs/", "/docs/api", "/docs/operating", "/docs/clients/openai-python", "/docs/nowhere",
)  # fmt: skip


@pytest.fixture
def raw_key(app: Flask) -> str:
    with app.app_context(), transaction():
        user = factories.user("ada@example.com", paid_tokens=10**9, trial_tokens=100_000)
        for _ in range(12):
            factories.usage_event(
                user.id,
                model="a-model-with-a-rather-long-name-q4_k_m",
                charged_paid=123_456_789 // 12,
            )
        for state in OrderState:
            factories.order(user.id, tokens=10**9, state=state)
        return factories.api_key(user.id)[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_pages_fit_and_load_all_they_need(
    browser: Browser, address: str, raw_key: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
    )
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.goto(f"{address}/dashboard?key={raw_key}")
    assert page.url == f"{address}/dashboard"
    for path in PAGES:
        page.goto(address + path)
        too_wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert too_wide <= 0, path
        assert page.evaluate("getComputedStyle(document.body).display") == "flex", "no stylesheet"
    blocked = [text for text in problems if "Content Security Policy" in text]
    assert blocked == []
    context.close()


def test_register_sign_in_and_out(browser: Browser, address: str, raw_key: str) -> None:
    page: Page = browser.new_page()
    page.goto(address)
    page.click("main >> text=Create an account")
    page.fill("#email", "nobody")
    page.click("text=Email me a key")
    assert "not a valid" in page.inner_text("#email-error")
    page.fill("#email", "new@example.com")
    page.click("text=Email me a key")
    assert "Check your email" in page.inner_text("h1")
    page.click("text=I have my key")
    page.fill("#key", raw_key)
    page.click("text=Open the dashboard")
    assert page.url == f"{address}/dashboard"
    page.click("text=Daily figures")
    page.click("text=Sign out")
    assert page.url == f"{address}/"
    page.goto(f"{address}/dashboard")
    assert page.url == f"{address}/"
    page.close()


def test_the_dashboard_keeps_fresh_by_itself(
    app: Flask, browser: Browser, address: str, raw_key: str
) -> None:
    page: Page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()
    page.goto(f"{address}/dashboard?key={raw_key}")
    balance = page.inner_text("#balance .main .number")
    page.fill("#name", "half typed")
    page.locator("#usage summary").click()
    page.evaluate("document.querySelector('#key-rows').seen = true")
    with app.app_context(), transaction():
        user = accounts.find(email="ada@example.com")
        factories.usage_event(user.id, model="the-newest", charged_paid=1000)
    asked.clear()
    page.clock.fast_forward(16_000)
    page.locator("#recent >> text=the-newest").wait_for()
    assert asked == [f"{address}/dashboard"]
    after = page.inner_text("#balance .main .number")
    assert int(balance.replace(",", "")) - int(after.replace(",", "")) == 1000
    assert page.input_value("#name") == "half typed"
    assert page.locator("#usage details").get_attribute("open") is not None
    assert page.evaluate("document.querySelector('#key-rows').seen"), "what is the same stays"
    with app.app_context(), transaction():
        keys.revoke_all(accounts.find(email="ada@example.com").id)
    asked.clear()
    with page.expect_event("requestfailed"):
        page.clock.fast_forward(16_000)
    page.clock.fast_forward(60_000)
    page.wait_for_timeout(100)
    assert len(asked) == 1, "signed out: it stops"
    assert page.locator("#balance").is_visible()
    page.close()
