"""Accounts with a signed-in client, and a real browser."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from promptly.transactions import transaction
from tests.browser.chromium import chromium
from tests.support import factories


@dataclass
class Visitor:
    """An account and a client signed in to it; forms are sent with their CSRF token."""

    client: FlaskClient
    user_id: int
    key_id: int
    key: str
    email: str

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, **options)

    def post(self, path: str, page: str = "/dashboard", **form: str) -> TestResponse:
        """Send a form of `page` with its CSRF token."""
        text = self.client.get(page).text
        token = text.split('name="csrf_token" value="')[1].split('"')[0]
        return self.client.post(path, data={"csrf_token": token, **form})


def sign_up(app: Flask, email: str, **balance: Any) -> Visitor:
    with app.app_context(), transaction():
        user = factories.user(email, **balance)
        key, raw = factories.api_key(user.id)
        user_id, key_id = user.id, key.id
    client = app.test_client()
    assert client.post("/session", data={"key": raw}).location == "/dashboard"
    return Visitor(client, user_id, key_id, raw, email)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    """An account with 1,000 paid tokens."""
    return sign_up(app, "ada@example.com", paid_tokens=1000)


@pytest.fixture
def other(app: Flask) -> Visitor:
    """A second account."""
    return sign_up(app, "eve@example.com", paid_tokens=1000)


@pytest.fixture
def address(app: Flask) -> Iterator[str]:
    """The URL of the application, which listens on a free port."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started
