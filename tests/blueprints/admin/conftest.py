"""Fixtures of the panel: applications with an admin key, and signed-in clients."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from promptly.secret import Secret
from sandbox.btcpay import SimulatedBTCPay
from sandbox.stripe import SimulatedStripe
from tests.blueprints.admin.panel import Panel
from tests.conftest import AppFactory
from tests.support.shop import Shop, configuration

ADMIN_KEY = "the-operators-key-0123456789-abcdefgh"
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}


@pytest.fixture
def admin_app(app_factory: AppFactory) -> Flask:
    """An application on the fresh database with ADMIN_KEY set."""
    return app_factory(admin_key=Secret(ADMIN_KEY))


@pytest.fixture
def script(admin_app: Flask) -> FlaskClient:
    """A client without a session, like curl."""
    return admin_app.test_client()


@pytest.fixture
def panel(admin_app: Flask) -> FlaskClient:
    """A signed-in client."""
    client = admin_app.test_client()
    answer = client.post("/admin/session", data={"key": ADMIN_KEY})
    assert answer.status_code == 303, answer.text
    return client


def token_of(page: str) -> str:
    """Return the CSRF token of a page's form."""
    return page.split('name="csrf_token" value="')[1].split('"')[0]


@pytest.fixture
def pages(admin_app: Flask, panel: FlaskClient) -> Panel:
    """The panel as an operator uses it: read pages, submit confirmations."""
    return Panel(admin_app, panel)


@pytest.fixture
def shop(
    app_factory: AppFactory, stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay
) -> Iterator[Shop]:
    """A shop with both providers but without webhook delivery; teardown verifies its books."""
    settings = configuration(stripe_server, btcpay_server)
    shop = Shop(
        app_factory(admin_key=Secret(ADMIN_KEY), **settings), "", stripe_server, btcpay_server
    )
    shop.open()
    yield shop
    assert shop.differences() == []


@pytest.fixture
def shop_pages(shop: Shop) -> Panel:
    """The panel of `shop`, signed in."""
    client = shop.app.test_client()
    assert client.post("/admin/session", data={"key": ADMIN_KEY}).status_code == 303
    return Panel(shop.app, client)
