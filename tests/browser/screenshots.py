"""`make screenshots`: screenshots of every page, on a phone and a desktop, light and dark.

Starts the product in a temporary folder and seeds it with a past. Takes the output folder, and
with `--only TEXT` only the pages whose name contains it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser import seeding
from tests.browser.chromium import chromium
from tests.browser.pages import PAGES, SCHEMES, WIDTHS, Shown, Visitors
from tests.browser.site import running_site
from tests.browser.ways import World

HEIGHT = 900


def main() -> int:
    """Take the screenshots; return the exit code."""
    parser = argparse.ArgumentParser(prog="screenshots", description="Pictures of every page.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(".promptly/screenshots"))
    parser.add_argument("--only", default="", metavar="TEXT", help="pages with this in their name")
    options = parser.parse_args()
    wanted = [shown for shown in PAGES if options.only in shown.name]
    options.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="promptly-") as temporary,
        running_site(Path(temporary) / "product") as site,
        chromium() as browser,
    ):
        world = World(site, seeding.fill(site))
        wrong = take(wanted, options.folder.resolve(), browser, world)
    sys.stdout.write(f"{len(wanted)} pages, {len(WIDTHS) * len(SCHEMES)} pictures of each:")
    sys.stdout.write(f" {options.folder.resolve()}\n")
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    return 1 if wrong else 0


def take(wanted: list[Shown], folder: Path, browser: Browser, world: World) -> list[str]:
    """Take the screenshots; return a line for each page that answered with another status."""
    visitors = Visitors(browser, world)
    wrong = []
    for shown in wanted:
        context = visitors.context(shown.who, reduced_motion="reduce")
        page = context.new_page()
        status = shown.open(page, world)
        if status != shown.status:
            wrong.append(f"{shown.name}: {status} instead of {shown.status}")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                picture = folder / f"{shown.name}-{width}-{scheme}.png"
                page.screenshot(path=picture, full_page=True)
        context.close()
    return wrong


if __name__ == "__main__":
    sys.exit(main())
