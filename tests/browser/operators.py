"""An operator and their browser, signed in to the panel."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.browser.site import Site
from tests.browser.watching import Watch


class Operator:
    """A browser opened with the printed link."""

    def __init__(self, site: Site, browser: Browser, *, scripts: bool) -> None:
        self.site = site
        self._context = browser.new_context(java_script_enabled=scripts)
        self.watch = Watch(self._context, site.url)
        self.page = self._context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.goto(printed_link(site))

    def close(self) -> None:
        """Close the browser."""
        self._context.close()

    def open_account(self, address: str) -> Page:
        """Search for an account and open its page."""
        page = self.page
        page.get_by_role("link", name="Users", exact=True).click()
        page.get_by_label("Search by email").fill(address)
        page.get_by_role("button", name="Search").click()
        page.get_by_role("link", name=address).click()
        expect(page.get_by_role("heading", name=address)).to_be_visible()
        return page

    def allow_clipboard(self) -> None:
        """Let pages write to the clipboard, and tests read it."""
        self._context.grant_permissions(["clipboard-read", "clipboard-write"])

    def acts(self) -> list[str]:
        """Return the rows of the audit log, newest first, each in one line."""
        self.page.get_by_role("link", name="Audit", exact=True).click()
        found = self.page.get_by_role("region", name="Actions").get_by_role("row")
        # `all` does not wait for the page that the link leads to.
        expect(found.nth(1)).to_be_visible()
        rows = found.all()[1:]
        return [" ".join(row.inner_text().split()) for row in rows]


def printed_link(site: Site) -> str:
    """Return the panel's link that `make run` prints."""
    found = re.search(r"http\S+/admin\?key=\S+", site.project.printed)
    assert found is not None
    return found.group()
