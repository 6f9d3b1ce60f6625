"""Accessibility of every page: light and dark, phone and desktop, screen reader and keyboard."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browser import seeding
from tests.browser.pages import PAGES, SCHEMES, WIDTHS, Shown, Visitors
from tests.browser.site import Site
from tests.browser.watching import Watch
from tests.browser.ways import World
from tests.run import EXHAUSTIVE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MOST_BYTES = 150_000
# WCAG 2.2 at level AA, the versions before it, and axe's best practices.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = Axe()
AXE_OPTIONS = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "tag", "values": RULES},
    # Preloading would fetch stylesheets again, for orientation rules that do not apply here.
    "preload": False,
}

# Scripts that are not deferred block the first paint.
BLOCKING_SCRIPTS = """
() => [
  ...[...document.scripts].filter((s) => !s.defer && !s.async && s.type !== "module")
    .map((s) => s.src || s.outerHTML),
  ...performance.getEntriesByType("resource")
    .filter((e) => e.initiatorType === "script" && e.renderBlockingStatus === "blocking")
    .map((e) => e.name),
]
"""
# The decoded size of the page and its resources.
BYTES = """
() => ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
  .reduce((sum, entry) => sum + entry.decodedBodySize, 0)
"""
TOO_WIDE = """
() => document.documentElement.scrollWidth > innerWidth
  ? [...document.body.querySelectorAll("*")]
      .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, pre"))
      .map((e) => e.outerHTML.slice(0, 120))
  : []
"""
# Tables that need horizontal scrolling, except those in <details> and in documents, which may be
# as wide as they need.
CUT_OFF = """
() => [...document.querySelectorAll(".scroll:not(details .scroll, .prose .scroll)")]
  .filter((e) => e.scrollWidth > e.clientWidth + 1)
  .map((e) => `${e.ariaLabel}: ${e.scrollWidth} in ${e.clientWidth}`)
"""
MOVING = """
() => [...document.querySelectorAll("*")].filter((e) => {
  const style = getComputedStyle(e);
  const seconds = (text) => Math.max(...text.split(",").map((part) =>
    parseFloat(part) * (part.trim().endsWith("ms") ? 0.001 : 1)));
  return seconds(style.transitionDuration) > 0.01 || seconds(style.animationDuration) > 0.01
    || style.scrollBehavior === "smooth";
}).map((e) => e.outerHTML.slice(0, 120))
"""
# Before refresh.js runs, which is deferred: a page that replaces its own parts loses the numbers of
# its controls, and on a slow machine it would, halfway through a test.
WITHOUT_REFRESH = """
document.addEventListener("readystatechange", () => {
  document.querySelectorAll("[data-refresh]").forEach((e) => e.removeAttribute("data-refresh"));
});
"""
# Number all controls except radio buttons: Tab reaches only one of a group.
NUMBER_CONTROLS = """
() => {
  const all = [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex='0']")];
  const usable = all.filter((e) => e.type !== "hidden" && e.type !== "radio" && !e.disabled
    && e.checkVisibility({visibilityProperty: true}) && !e.closest("[inert]"));
  usable.forEach((e, index) => { e.dataset.number = index; });
  document.activeElement.blur();
  return usable.length;
}
"""
FOCUSED = """
() => {
  const found = document.activeElement;
  if (found === document.body) return null;
  const style = getComputedStyle(found);
  const box = found.getBoundingClientRect();
  return {
    number: found.dataset.number === undefined ? null : Number(found.dataset.number),
    html: found.outerHTML.slice(0, 120),
    ring: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    seen: box.width > 0 && box.height > 0 && box.right > 0 && box.left < innerWidth,
  };
}
"""


@pytest.fixture(scope="module")
def world(site: Site) -> World:
    return World(site, seeding.fill(site))


@pytest.fixture(scope="module")
def visitors(browser: Browser, world: World) -> Visitors:
    return Visitors(browser, world)


@pytest.fixture(scope="module", params=PAGES, ids=lambda shown: shown.name)
def shown(request: pytest.FixtureRequest) -> Shown:
    found: Shown = request.param
    return found


# Opened once for all tests of a page.
@pytest.fixture(scope="module")
def page(shown: Shown, visitors: Visitors, world: World) -> Iterator[Page]:
    """The page, opened at a phone's width without a problem in the browser."""
    context = visitors.context(shown.who, viewport={"width": WIDTHS[0], "height": 800})
    watch = Watch(context, world.site.url)
    watch.allow(shown.status)
    context.add_init_script(WITHOUT_REFRESH)
    opened = context.new_page()
    assert shown.open(opened, world) == shown.status
    # Before axe runs: it adds inline styles, which the CSP refuses.
    watch.check()
    yield opened
    context.close()


def test_pages_are_accessible(page: Page) -> None:
    assert page.evaluate(BLOCKING_SCRIPTS) == []
    assert page.evaluate(BYTES) < MOST_BYTES
    # Without transitions: axe must not measure colours in between two schemes.
    page.emulate_media(reduced_motion="reduce")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate(MOVING) == []
    for place, scheme in enumerate(SCHEMES):
        for width in WIDTHS:
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(TOO_WIDE) == [], (scheme, width)
            assert width < 1000 or page.evaluate(CUT_OFF) == []
            # Each scheme and each width; all pairs take twice as long.
            if EXHAUSTIVE or width == WIDTHS[place % len(WIDTHS)]:
                found = AXE.run(page, options=AXE_OPTIONS).response["violations"]
                assert complaints(found) == [], (scheme, width)


def complaints(violations: list[dict[str, Any]]) -> list[str]:
    """Format axe's violations for the output of a failed test."""
    return [
        f"{rule['id']}: {node['html']} {json.dumps(node['failureSummary'])}"
        for rule in violations
        for node in rule["nodes"]
    ]


def test_the_keyboard_reaches_all(page: Page) -> None:
    page.set_viewport_size({"width": WIDTHS[1], "height": 800})
    missed = set(range(page.evaluate(NUMBER_CONTROLS)))
    assert missed
    # Up to two rounds, because a page may start with the focus on a form's field.
    for _ in range(2 * len(missed) + 20):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None:
            continue
        missed.discard(focused["number"])
        assert focused["ring"] >= 2 and focused["seen"], focused["html"]
        if not missed:
            break
    assert [shown_of(page, number) for number in sorted(missed)] == []


def shown_of(page: Page, number: int) -> str:
    """Return the markup of a numbered control."""
    return str(page.locator(f"[data-number='{number}']").evaluate("e => e.outerHTML"))
