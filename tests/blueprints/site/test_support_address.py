"""SUPPORT_EMAIL: at the foot of every page, and where pages ask customers to get in touch."""

import pytest
from flask.testing import FlaskClient

from tests.conftest import AppFactory

SUPPORT = "help@example.com"
PAGES = ("/", "/register", "/docs/", "/nowhere")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_names_it(app_factory: AppFactory, path: str) -> None:
    client = app_factory(support_email=SUPPORT).test_client()
    page = client.get(path, headers={"Accept": "text/html"}).text
    assert f'href="mailto:{SUPPORT}"' in page.partition("<footer")[2]


def test_errors_ask_to_write_to_it(app_factory: AppFactory) -> None:
    app = app_factory(support_email=SUPPORT, smtp_from="x <noreply@example.com>")

    def broken() -> str:
        raise RuntimeError

    app.add_url_rule("/broken", "broken", broken)
    answer = app.test_client().get("/broken", headers={"Accept": "text/html"})
    assert answer.status_code == 500
    page = answer.text
    main = page.partition("<main")[2].partition("</main")[0]
    assert "contact us at" in main and SUPPORT in main and "noreply@" not in page


def test_without_it_the_foot_names_none(client: FlaskClient) -> None:
    page = client.get("/").text
    assert "mailto:" not in page.partition("<footer")[2]
