"""static/refresh.js on pages of its own, with the browser's clock under control."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ORIGIN = "http://refresh.test"
SCRIPT = Path(__file__).parents[2] / "static" / "refresh.js"
PARTS = """<script src="/refresh.js" data-refresh="15" data-refresh-url="/next" defer></script>
<main><h1>Parts</h1><div id="balance" data-refresh-part>{balance}</div>
<div id="usage" data-refresh-part><details><summary>Days</summary>{days}</details></div></main>
"""
OUTCOME = """<title>{title}</title><script src="/refresh.js" defer></script>
<main><h1>{title}</h1><p id="kept">{text}</p>{waiting}</main>"""


class Server:
    """Answers `/` with `first`, `/next` with `body` and `status`, and notes the latter."""

    def __init__(self, page: Page) -> None:
        self.first, self.body, self.status = "", "", 200
        self.urls: list[str] = []
        self.page = page
        page.route(f"{ORIGIN}/**", self._answer)
        page.clock.install(time=0)
        # Otherwise the browser's clock would also advance by itself.
        page.clock.pause_at(1000)

    def open(self, first: str) -> None:
        self.first = first
        self.page.goto(ORIGIN)

    def after(self, seconds: int) -> None:
        """Let time pass in the browser, and the request that it causes, if any, be answered."""
        self.page.clock.run_for(1000 * seconds)
        self.page.evaluate("fetch('/done').then((answer) => answer.text())")

    def _answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        if path == "/":
            route.fulfill(body=self.first, content_type="text/html")
        elif path == "/refresh.js":
            route.fulfill(path=SCRIPT)
        elif path.startswith("/next"):
            self.urls.append(path)
            route.fulfill(body=self.body, status=self.status, content_type="text/html")
        else:
            route.fulfill(body="")


@pytest.fixture
def server(browser: Browser) -> Iterator[Server]:
    context = browser.new_context()
    yield Server(context.new_page())
    context.close()


def waiting(seconds: int, look: int) -> str:
    return f'<p data-refresh="{seconds}" data-refresh-url="/next?look={look}">…</p>'


def test_parts_are_replaced_in_place(server: Server) -> None:
    server.open(PARTS.format(balance="7", days="Monday"))
    server.page.locator("summary").click()
    server.page.locator("h1").click()
    server.body = PARTS.format(balance="8", days="Tuesday")
    server.after(14)
    assert server.urls == []
    server.after(1)
    expect(server.page.locator("#balance")).to_have_text("8")
    # Details that the reader opened stay open.
    expect(server.page.get_by_text("Tuesday")).to_be_visible()
    server.body = PARTS.format(balance="9", days="Tuesday")
    server.after(15)
    expect(server.page.locator("#balance")).to_have_text("9")
    assert server.urls == ["/next"] * 2


def test_a_part_in_use_is_left_alone(server: Server) -> None:
    server.open(PARTS.format(balance="7", days="Monday"))
    server.page.locator("summary").focus()
    server.body = PARTS.format(balance="8", days="Tuesday")
    server.after(15)
    expect(server.page.locator("#balance")).to_have_text("8")
    expect(server.page.locator("#usage")).to_contain_text("Monday")


def test_a_hidden_page_is_not_fetched(server: Server) -> None:
    server.open(PARTS.format(balance="7", days=""))
    server.page.evaluate("Object.defineProperty(document, 'hidden', {value: true, writable: true})")
    server.body = PARTS.format(balance="8", days="")
    server.after(60)
    assert server.urls == []
    server.page.evaluate("document.hidden = false")
    server.after(15)
    expect(server.page.locator("#balance")).to_have_text("8")


def test_parts_end_with_an_error(server: Server) -> None:
    server.open(PARTS.format(balance="7", days=""))
    server.status = 503
    server.after(15)
    server.status = 200
    server.after(60)
    assert server.urls == ["/next"]
    expect(server.page.locator("#balance")).to_have_text("7")


def test_an_outcome_is_waited_for(server: Server) -> None:
    server.open(OUTCOME.format(title="Open", text="first", waiting=waiting(2, look=1)))
    server.body = OUTCOME.format(title="Open", text="second", waiting=waiting(5, look=2))
    server.after(2)
    # The heading is the same, so only the next delay and URL are new.
    expect(server.page.locator("[data-refresh='5']")).to_be_attached()
    expect(server.page.locator("#kept")).to_have_text("first")
    server.body = OUTCOME.format(title="Paid", text="third", waiting="")
    server.after(5)
    expect(server.page.locator("h1")).to_have_text("Paid")
    expect(server.page.locator("#kept")).to_have_text("third")
    assert server.page.title() == "Paid"
    server.after(120)
    assert server.urls == ["/next?look=1", "/next?look=2"]


def test_an_outcome_is_asked_for_again_after_an_error(server: Server) -> None:
    server.open(OUTCOME.format(title="Open", text="", waiting=waiting(2, look=1)))
    server.status = 503
    server.after(2)
    server.status, server.body = 200, OUTCOME.format(title="Paid", text="", waiting="")
    server.after(9)
    assert server.urls == ["/next?look=1"]
    server.after(1)
    expect(server.page.locator("h1")).to_have_text("Paid")
    assert server.urls == ["/next?look=1"] * 2
