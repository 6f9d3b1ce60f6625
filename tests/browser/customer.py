"""A customer, with or without an account yet, and their browser."""

import itertools
import re

from playwright.sync_api import Browser, Page

from tests.browser.site import Site, text_of
from tests.browser.watching import Watch

KEY = re.compile(r"sk-[0-9A-Za-z]{46}")

_numbers = itertools.count(1)


class Customer:
    """One account and one browser, with or without scripts; `watch` collects its problems."""

    def __init__(self, site: Site, browser: Browser, *, scripts: bool = False) -> None:
        self.site = site
        self.address = f"customer{next(_numbers)}@example.com"
        self.key = ""
        self._browser = browser
        self._context = browser.new_context(java_script_enabled=scripts)
        self.watch = Watch(self._context, site.url)
        self.page = self._context.new_page()
        self.page.set_default_timeout(60_000)

    def close(self) -> None:
        """Close the browser context."""
        self._context.close()

    def register(self) -> None:
        """Register from the landing page, and take the key from the mail."""
        page = self.page
        page.goto(self.site.url)
        page.get_by_role("main").get_by_role("link", name="Create an account").first.click()
        page.get_by_label("Email address").fill(self.address)
        page.get_by_role("button", name="Email me a key").click()
        page.get_by_role("heading", name="Check your email").wait_for()
        self.key = self.site.wait_for_key(self.address)

    def sign_in(self) -> None:
        """Sign in with the key on the landing page and wait for the dashboard."""
        page = self.page
        page.goto(self.site.url)
        page.get_by_label("API key", exact=True).fill(self.key)
        page.get_by_role("button", name="Open the dashboard").click()
        page.wait_for_url(f"{self.site.url}/dashboard")

    def open_account(self, **balance: int) -> None:
        """Create an account directly in the database, and sign in."""
        self.address, self.key = self.site.open_account(self.address, **balance)
        self.sign_in()

    def go_to_pay(self, pack: str, button: str) -> str:
        """Press a pack's button on the dashboard; return the URL of the provider's page."""
        self.page.goto(f"{self.site.url}/dashboard")
        self.page.click(f".packs li:has-text('{pack}') >> text={button}")
        assert not self.page.url.startswith(self.site.url)
        return self.page.url

    def pay(self, button: str, page: Page | None = None) -> None:
        """Pay on the provider's page."""
        shown = page or self.page
        if shown.locator("input[type=email]").count():
            shown.fill("input[type=email]", self.address)
        shown.click(f"button:has-text('{button}')")

    def stranger(self) -> Page:
        """Open a page in another browser context, not signed in and without scripts."""
        context = self._browser.new_context(java_script_enabled=False)
        return context.new_page()

    def balance(self) -> str:
        """Return the available tokens as the dashboard shows them."""
        self.page.goto(f"{self.site.url}/dashboard")
        return self.page.inner_text(".figure.main .number")

    def history(self) -> list[list[str]]:
        """Return state, tokens, pack and method of each purchase on the dashboard, newest first."""
        self.page.goto(f"{self.site.url}/dashboard")
        rows = self.page.locator("section:has(#purchases-title) tbody tr").all()
        texts = [[" ".join(cell.split()) for cell in row.locator("td").all_inner_texts()]
                 for row in rows]  # fmt: skip
        return [[row[0], row[1], row[2], row[4]] for row in texts]

    def receipts(self) -> list[str]:
        """Return the texts of the receipts received so far."""
        subject = "Receipt for your promptly purchase"
        return [text_of(mail) for mail in self.site.mails(self.address, subject)]
