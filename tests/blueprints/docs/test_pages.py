import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from promptly.blueprints.docs.library import Library, path_of
from tests.conftest import AppFactory

BASE_URL = "https://api.example.com"


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    return app_factory(base_url=BASE_URL)


@pytest.fixture
def library(app: Flask) -> Library:
    found: Library = app.extensions["docs"]
    return found


class Links(HTMLParser):
    """Collect all link targets and ids of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                assert value not in self.ids, f"the id {value} stands twice"
                self.ids.add(value)
            elif name in {"href", "src"} and value:
                self.targets.append(value)


def test_every_link_of_every_page_leads_somewhere(client: FlaskClient, library: Library) -> None:
    urls = (*(f"/docs/{path}" for path in library.names), "/")
    pages = {url: Links(client.get(url).get_data(as_text=True)) for url in urls}
    assert len(pages) >= 20
    for url, page in pages.items():
        for target in page.targets:
            path, _, anchor = target.removeprefix(BASE_URL).partition("#")
            path = path or url
            if path.startswith(("http://", "https://")):
                continue
            with client.get(path) as answer:
                # No upstream runs here, so readiness answers 503.
                right = {503} if target == "/health/ready" else {200, 303}
                assert answer.status_code in right, f"{url}: {target}"
            if anchor:
                assert anchor in pages[path].ids, f"{url}: {target}"


def test_every_document_is_in_the_contents(library: Library) -> None:
    listed = {path for group in library.contents for _, path in group.pages}
    assert listed == set(library.names) - {""}


def test_customers_see_only_their_documents(client: FlaskClient, project: Path) -> None:
    for folder in ("operating", "adr"):
        for path in (project / "docs" / folder).glob("*.md"):
            for name in (f"{folder}/{path.stem}", f"{folder}/{path.name}", f"{folder}/"):
                assert client.get(f"/docs/{name}").status_code == 404, name
    for stem in ("scaling", "performance"):
        assert (project / f"docs/{stem}.md").exists()
        for name in (stem, f"{stem}.md"):
            assert client.get(f"/docs/{name}").status_code == 404, name


def test_a_page_is_the_same_for_everybody_and_kept(client: FlaskClient) -> None:
    with client.session_transaction() as session:
        session["key_id"] = 1
    first = client.get("/docs/api")
    assert first.status_code == 200
    assert first.headers["Content-Type"] == "text/html; charset=utf-8"
    assert first.headers["Cache-Control"] == "public, max-age=300"
    assert "Vary" not in first.headers and "Set-Cookie" not in first.headers
    assert "default-src 'none'" in first.headers["Content-Security-Policy"]
    again = client.get("/docs/api", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/docs/api").data == first.data


def test_pages_have_nothing_inline(client: FlaskClient, library: Library) -> None:
    for path in library.names:
        page = client.get(f"/docs/{path}").get_data(as_text=True)
        tags = " ".join(re.findall(r"<[^>]*>", page))
        assert not re.search(r"\s(style|on[a-z]+)=", tags), path
        for script, content in re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL):
            assert "src=" in script and content == "", path


def test_code_has_a_button_that_copies_it(client: FlaskClient) -> None:
    page = client.get("/docs/clients/curl").get_data(as_text=True)
    targets = re.findall(r'data-copy="#([^"]+)"', page)
    assert len(targets) > 2
    for target in targets:
        assert page.count(f'<pre tabindex="0" id="{target}">') == 1


def test_pages_lead_to_their_neighbours(client: FlaskClient, library: Library) -> None:
    visited = [""]
    while following := re.search(
        r'<a href="/docs/([^"]*)" rel="next">',
        client.get(f"/docs/{visited[-1]}").get_data(as_text=True),
    ):
        page = client.get(f"/docs/{following[1]}").get_data(as_text=True)
        assert f'<a href="/docs/{visited[-1]}" rel="prev">' in page
        visited.append(following[1])
    assert visited == ["", *(path for group in library.contents for _, path in group.pages)]


@pytest.mark.parametrize(
    ("path", "example"),
    [("clients/curl", "/v1/chat/completions"), ("dashboard", "/dashboard?key=$PROMPTLY_KEY")],
)
def test_examples_have_this_installations_url(client: FlaskClient, path: str, example: str) -> None:
    page = client.get(f"/docs/{path}").get_data(as_text=True)
    assert BASE_URL + example in page
    assert "127.0.0.1" not in page


@pytest.mark.parametrize("path", ["README.md", "api.md", "clients/curl.md", "clients/README.md"])
def test_the_markdown_of_a_page(client: FlaskClient, project: Path, path: str) -> None:
    answer = client.get(f"/docs/{path}")
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    source = (project / "docs" / path).read_text()
    assert answer.get_data(as_text=True) == source.replace("http://127.0.0.1:8503", BASE_URL)


@pytest.mark.parametrize(
    "path",
    [
        "nowhere", "README", "clients/nowhere", "api/", "api.md.md", "api.md%00", "/etc/passwd",
        "../README.md", "%2e%2e/README.md", "..%2fREADME.md", "clients/../../README.md",
        "clients/../../promptly/app.py", "clients/../adr/README.md",
    ],
)  # fmt: skip
def test_there_is_nothing_else(client: FlaskClient, path: str) -> None:
    answer = client.get(f"/docs/{path}")
    assert answer.status_code in {404, 308}
    if answer.status_code == 404:
        assert "does not exist" in answer.get_data(as_text=True)
        assert "site-header" in answer.get_data(as_text=True)


def test_folders_have_a_slash(client: FlaskClient) -> None:
    for path in ("/docs", "/docs/clients"):
        answer = client.get(path)
        assert answer.status_code in {301, 308}
        assert answer.location.removeprefix("http://localhost") == f"{path}/"


def test_links_between_documents(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "clients").mkdir()
    for name in ("README", "api", "clients/README", "clients/curl"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n")
    library = Library(tmp_path, BASE_URL)
    with app.test_request_context():
        assert library.resolve("clients/curl", "../api.md#errors") == "/docs/api#errors"
        assert library.resolve("clients/curl", "README.md") == "/docs/clients/"
        assert library.resolve("README", "clients/curl.md") == "/docs/clients/curl"
        assert library.resolve("api", "#limits") == "#limits"
        assert library.resolve("api", "https://example.com/x.md") == "https://example.com/x.md"
        for outside in ("../README.md", "../../x.md", "gone.md", "clients/curl.py", "/etc/passwd"):
            assert library.resolve("api", outside) is None, outside
    assert path_of("clients/README") == "clients/"


def test_the_image_has_the_documents(project: Path) -> None:
    assert "!docs" in (project / ".dockerignore").read_text().splitlines()
