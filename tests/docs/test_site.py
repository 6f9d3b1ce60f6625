"""The documentation site, built as its workflow builds it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from promptly.blueprints.docs.library import Library

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; broken links, anchors and pages missing in the navigation are errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    built = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    for path in (PROJECT / "docs").rglob("*.md"):
        name = path.relative_to(PROJECT / "docs").with_suffix("").as_posix()
        folder = site / name.removesuffix("README")
        assert (folder / "index.html").is_file(), name


def test_code_can_be_copied_and_is_not_marked(site: Path) -> None:
    page = (site / "clients" / "curl" / "index.html").read_text()
    assert "content.code.copy" in page
    assert '<div class="highlight">' in page
    assert "```" not in page and "bash run" not in page


def test_pages_lead_to_their_neighbours(site: Path) -> None:
    page = (site / "api" / "index.html").read_text()
    assert re.search(r'class="md-footer__link md-footer__link--prev"', page)
    assert re.search(r'class="md-footer__link md-footer__link--next"', page)


def test_search_finds_documents_of_each_audience(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    texts = {entry["location"]: entry["text"] for entry in index["docs"]}
    for word, folder in (("insufficient_quota", "api/"), ("DATABASE_URL", "operating/")):
        assert any(word in text for place, text in texts.items() if place.startswith(folder))


def test_pages_load_nothing_from_other_servers(site: Path) -> None:
    for path in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|iframe|source)[^>]* src=.(https?:[^ >\"']+)"
            r"|<link[^>]* rel=.(?:stylesheet|preconnect|icon).[^>]* href=.(https?:[^ >\"']+)",
            path.read_text(),
        )
        assert loaded == [], path


def navigation(entries: list[object]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            for value in entry.values():
                yield from navigation(value if isinstance(value, list) else [value])


def test_customers_find_their_documents_in_the_same_order_as_at_docs() -> None:
    text = re.sub(r"!\S+", "", (PROJECT / "mkdocs.yml").read_text())
    [customers, *_] = yaml.safe_load(text)["nav"]
    listed = [name.removesuffix(".md") for name in navigation([customers])]
    library = Library(PROJECT / "docs", "https://api.example.com")
    assert listed == [library.names[path] for path in library.titles]
