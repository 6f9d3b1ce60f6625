"""Browsers keep static files for a year, and fetch them anew after a release that changed them."""

import re
import shutil
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from promptly.blueprints.static_files import IMMUTABLE, version_of

STATIC = re.compile(r'(?:href|src)="(/static/[^"]+)"')


@pytest.fixture
def version(project: Path) -> str:
    return version_of(project / "static")


def cache_control(client: FlaskClient, url: str) -> str:
    with client.get(url) as answer:
        assert answer.status_code == 200, url
        return answer.headers["Cache-Control"]


@pytest.mark.parametrize("page", ["/", "/register", "/docs/"])
def test_pages_link_to_files_that_browsers_keep(client: FlaskClient, page: str) -> None:
    urls = STATIC.findall(client.get(page).get_data(as_text=True))
    assert {url.rpartition(".")[2] for url in urls} >= {"css", "svg"}
    for url in urls:
        assert cache_control(client, url) == IMMUTABLE, url


def test_so_is_what_stylesheets_import(client: FlaskClient, version: str, project: Path) -> None:
    [imported] = re.findall(
        r'@import url\("(.+?)"\)', (project / "static/promptly.css").read_text()
    )
    assert cache_control(client, f"/static/{version}/{imported}") == IMMUTABLE


@pytest.mark.parametrize("url", ["/static/promptly.css", f"/static/{'0' * 16}/promptly.css"])
def test_another_version_is_the_current_file_to_be_revalidated(
    client: FlaskClient, version: str, url: str
) -> None:
    assert cache_control(client, url) == "no-cache"
    with client.get(url) as first, client.get(f"/static/{version}/promptly.css") as kept:
        assert first.data == kept.data
        etag = first.headers["ETag"]
    with client.get(url, headers={"If-None-Match": etag}) as again:
        assert again.status_code == 304


@pytest.mark.parametrize("path", ["missing.css", "../app.py", "%2e%2e/wsgi.py", "/etc/passwd"])
def test_only_static_files(client: FlaskClient, version: str, path: str) -> None:
    for url in (f"/static/{path}", f"/static/{version}/{path}"):
        assert client.get(url).status_code in {308, 404}, url


def test_a_version_covers_names_and_contents(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "static"
    shutil.copytree(project / "static", copy)
    versions = [version_of(copy)]
    assert versions == [version_of(project / "static")]
    (copy / "icons" / "check.svg").rename(copy / "icons" / "tick.svg")
    versions.append(version_of(copy))
    (copy / "promptly.css").write_text("/* changed */")
    versions.append(version_of(copy))
    assert len(set(versions)) == 3
