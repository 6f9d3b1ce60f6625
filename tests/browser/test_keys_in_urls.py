"""A key in a URL, a documented feature, leaks neither to the history nor to Referer."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Request, Route, expect

from tests.browser.site import Site
from tests.browser.watching import Watch

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ENTRIES = """
() => ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
  .map((entry) => entry.name)
"""


@pytest.mark.parametrize(
    ("entrance", "onwards"),
    [("/dashboard", "Docs"), ("/admin", "Users"), ("/admin/users", "Audit")],
)
def test_a_browser_is_led_to_a_clean_address(
    site: Site, browser: Browser, entrance: str, onwards: str
) -> None:
    _, users_key = site.open_account(f"typist{entrance.replace('/', '-')}@example.com")
    key = site.admin_key if entrance.startswith("/admin") else users_key
    context = browser.new_context()
    watch = Watch(context, site.url)
    page = context.new_page()
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    page.goto(f"{site.url}/docs/")
    answer = page.goto(f"{site.url}{entrance}?key={key}")
    assert answer is not None and answer.ok
    assert page.url == f"{site.url}{entrance}"

    # Only one request carried the key, and it was answered by a redirect.
    with_key = [request for request in asked if key in request.url]
    assert len(with_key) == 1
    redirect = with_key[0].response()
    assert redirect is not None and redirect.status == 303
    assert key not in repr(redirect.all_headers())
    assert redirect.all_headers()["cache-control"] == "no-store"
    for request in asked:
        if request not in with_key:
            assert key not in repr(request.all_headers())
    assert [name for name in page.evaluate(ENTRIES) if key in name] == []
    assert key not in page.evaluate("document.referrer") and key not in page.content()

    page.get_by_role("link", name=onwards, exact=True).click()
    expect(page).not_to_have_url(f"{site.url}{entrance}")
    assert page.evaluate("document.referrer") == f"{site.url}{entrance}"
    # The history has only the clean URL: back leads to it, and again back to the page before.
    page.go_back()
    assert page.url == f"{site.url}{entrance}"
    page.go_back()
    assert page.url == f"{site.url}/docs/"
    for cookie in context.cookies():
        assert key not in str(cookie)
    context.close()
    watch.check()


@pytest.mark.parametrize("entrance", ["/dashboard", "/admin"])
def test_a_page_with_the_key_in_its_url_does_not_leak_it(
    site: Site, browser: Browser, entrance: str
) -> None:
    """Old browsers, without navigation headers, get the page itself: it must not leak its URL."""
    _, users_key = site.open_account(f"old-browser{entrance.replace('/', '-')}@example.com")
    key = site.admin_key if entrance == "/admin" else users_key
    context = browser.new_context()
    page = context.new_page()
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))

    def without_hint(route: Route) -> None:
        request = route.request
        answer = context.request.get(request.url, max_redirects=0)
        route.fulfill(response=answer)

    page.route("**/*key=*", without_hint)
    page.goto(f"{site.url}{entrance}?key={key}")
    assert urlsplit(page.url).query == f"key={key}"
    page.get_by_role("link", name="Docs", exact=True).first.click()
    page.wait_for_url("**/docs/")
    for request in asked:
        if key not in request.url:
            assert key not in repr(request.all_headers()), request.url
    assert page.evaluate("document.referrer") == ""
    context.close()
