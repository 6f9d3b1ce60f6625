"""Properties of every form and page: size bounds, titles, labels, caching, keys in URLs."""

import re

import pytest
from flask import Flask

from promptly.blueprints import form_body
from promptly.transactions import transaction
from tests.blueprints.site.conftest import Visitor
from tests.support import factories


@pytest.mark.parametrize("path", ["/register", "/session", "/dashboard/keys", "/dashboard/mails"])
def test_a_form_has_a_bound(visitor: Visitor, path: str) -> None:
    answer = visitor.client.post(path, data={"name": "x" * form_body.FORM_BYTES})
    assert answer.status_code == 413
    assert "form is too large" in answer.text


def pages(app: Flask, visitor: Visitor) -> list[str]:
    with app.app_context(), transaction():
        spare = factories.api_key(visitor.user_id)[0].id
        request_id = f"req_{factories.usage_event(visitor.user_id).request_id.hex}"
    return [
        "/dashboard", "/dashboard/requests", f"/dashboard/requests/{request_id}",
        f"/dashboard/keys/{spare}/revoke", "/dashboard/delete", "/register", "/",
    ]  # fmt: skip


def test_every_page_has_a_title_a_heading_and_labels(app: Flask, visitor: Visitor) -> None:
    titles = set()
    for path in pages(app, visitor):
        text = visitor.get(path).text
        [title] = re.findall(r"<title>(.*?)</title>", text.split("<body>")[0])
        titles.add(title)
        assert len(re.findall(r"<h1[ >]", text)) == 1, path
        labelled = set(re.findall(r'<label for="([^"]+)"', text))
        for tag in re.findall(r"<input [^>]+>", text):
            if 'type="hidden"' in tag or "aria-label" in tag:
                continue
            name = re.search(r'id="([^"]+)"', tag)
            assert name is not None and name.group(1) in labelled, tag
        ids = re.findall(r' id="([^"]+)"', text)
        assert len(ids) == len(set(ids)), path
    assert len(titles) == 7


def test_pages_of_an_account_are_not_cached(app: Flask, visitor: Visitor) -> None:
    for path in pages(app, visitor)[:5]:
        assert visitor.get(path).headers["Cache-Control"] == "no-store", path


def test_a_key_in_the_url_leaves_it_on_every_page(app: Flask, visitor: Visitor) -> None:
    client = app.test_client()
    navigation = {"Sec-Fetch-Mode": "navigate"}
    for path in pages(app, visitor)[:5]:
        answer = client.get(f"{path}?key={visitor.key}", headers=navigation)
        assert (answer.status_code, answer.location) == (303, path)
    path = f"/dashboard/requests?before=req_{'0' * 32}&key={visitor.key}"
    assert "key=" not in str(client.get(path, headers=navigation).location)
    # A POST with a key in the URL comes from a script and gets no session.
    answer = app.test_client().post(f"/dashboard/keys?key={visitor.key}", data={"name": "script"})
    assert answer.status_code == 200 and "Set-Cookie" not in answer.headers
