import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from promptly.blueprints.docs.library import Library
from promptly.blueprints.docs.search import MAX_HITS, Hit, search


@pytest.fixture
def library(app: Flask, tmp_path: Path) -> Library:
    (tmp_path / "README.md").write_text(
        "# Docs\n\n## Use\n\n- [Limits](limits.md)\n- [Keys](keys.md)\n"
    )
    (tmp_path / "limits.md").write_text(
        "# Limits\n\nEach key has limits.\n\n## Retries\n\nWait as long as `retry-after` says.\n"
    )
    (tmp_path / "keys.md").write_text(
        "# Keys\n\nA key is secret.\n\n## Rotation\n\nReplace a KEY.\n"
    )
    return Library(tmp_path, "https://api.example.com")


def find(app: Flask, library: Library, query: str) -> list[Hit]:
    with app.test_request_context():
        return search(library, query)


def test_sections_have_every_word(app: Flask, library: Library) -> None:
    [hit] = find(app, library, "wait RETRY")
    assert (hit.path, hit.title, hit.heading, hit.anchor) == (
        "limits",
        "Limits",
        "Retries",
        "retries",
    )
    assert hit.excerpt == "Wait as long as retry-after says."
    assert find(app, library, "wait secret") == []


def test_words_in_headings_come_first(app: Flask, library: Library) -> None:
    headings = [hit.heading for hit in find(app, library, "key")]
    assert headings == ["Keys", "Use", "Limits", "Rotation"]


def results(client: FlaskClient, query: str) -> list[str]:
    """Return the URLs of the sections that the page lists."""
    answer = client.get("/docs/search", query_string={"q": query})
    assert answer.status_code == 200
    [listed] = re.findall(
        r'<ol class="hits">(.*?)</ol>', answer.get_data(as_text=True), re.DOTALL
    ) or [""]
    return re.findall(r'<a href="([^"]+)"', listed)


@pytest.mark.parametrize("query", ["", "   ", "\x00", "x" * 5000, "DATABASE_URL"])
def test_nothing_to_find(client: FlaskClient, query: str) -> None:
    assert results(client, query) == []


def test_results_lead_to_the_section(client: FlaskClient) -> None:
    urls = results(client, "insufficient_quota")
    assert urls
    for url in urls:
        path, _, anchor = url.partition("#")
        assert f'id="{anchor}"' in client.get(path).get_data(as_text=True)


def test_a_query_is_shown_as_text(client: FlaskClient) -> None:
    page = client.get("/docs/search", query_string={"q": '"><b>'}).get_data(as_text=True)
    assert "<b>" not in page
    assert page.count("&#34;&gt;&lt;b&gt;") == 2


def test_results_are_bounded(client: FlaskClient) -> None:
    assert len(results(client, "the")) == MAX_HITS
