"""The form that redirects to the provider's checkout, and the return from it."""

import re

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from promptly.extensions import db
from promptly.models import Order, User
from promptly.packs import CustomAmounts
from promptly.transactions import transaction
from sandbox.btcpay import SimulatedBTCPay
from sandbox.stripe import SimulatedStripe
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.shop import Shop, configuration


@pytest.fixture
def shop(
    app_factory: AppFactory, stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay
) -> Flask:
    app = app_factory(**configuration(stripe_server, btcpay_server))
    Shop(app, "", stripe_server, btcpay_server).open()
    return app


def signed_in(app: Flask, email: str = "ada@example.com") -> FlaskClient:
    with app.app_context(), transaction():
        _, raw = factories.api_key(factories.user(email).id)
    client = app.test_client()
    assert client.post("/session", data={"key": raw}).status_code == 303
    return client


def token(client: FlaskClient) -> str:
    """Return the CSRF token of the dashboard's forms."""
    with client.session_transaction() as session:
        assert "key_id" in session
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/dashboard").text)
    assert found is not None
    return found.group(1)


def orders(app: Flask) -> list[Order]:
    with app.app_context():
        return list(db.session.query(Order).order_by(Order.id))


@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_a_form_leads_to_the_providers_page(
    shop: Flask, stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay, method: str
) -> None:
    client = signed_in(shop)
    form = {"pack": "standard", "method": method, "csrf_token": token(client)}
    answer = client.post("/checkout", data=form)
    [order] = orders(shop)
    assert (answer.status_code, answer.location) == (303, order.checkout_url)
    provider = stripe_server if method == "stripe" else btcpay_server
    assert str(answer.location).startswith(provider.url)
    # A browser follows a form's redirect only if the page's CSP allows the target.
    policy = client.get("/dashboard").headers["Content-Security-Policy"]
    assert provider.url in policy.partition("form-action")[2]


def test_a_suspended_account_buys_nothing(shop: Flask, stripe_server: SimulatedStripe) -> None:
    client = signed_in(shop)
    form = {"pack": "standard", "method": "stripe", "csrf_token": token(client)}
    assert "Pay by card" in client.get("/dashboard").text
    with shop.app_context(), transaction():
        db.session.execute(text("UPDATE users SET suspended_at = now()"))
    assert "Pay by card" not in client.get("/dashboard").text
    answer = client.post("/checkout", data=form)
    assert answer.status_code == 403
    assert "This account is suspended. Its balance is kept." in answer.text
    assert orders(shop) == []
    with shop.app_context(), transaction():
        db.session.execute(text("UPDATE users SET suspended_at = NULL"))
    assert client.post("/checkout", data=form).status_code == 303


def test_forged_forms_and_strangers(shop: Flask) -> None:
    client = signed_in(shop)
    form = {"pack": "standard", "method": "stripe"}
    assert client.post("/checkout", data=form).status_code == 400
    foreign = {"Sec-Fetch-Site": "cross-site"}
    good = form | {"csrf_token": token(client)}
    assert client.post("/checkout", data=good, headers=foreign).status_code == 403
    stranger = shop.test_client().post("/checkout", data=form)
    assert (stranger.status_code, stranger.location) == (303, "/")
    assert orders(shop) == []


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"pack": "huge", "method": "stripe"}, 400, "no such pack"),
        ({"pack": "pro", "method": "paypal"}, 400, "no such way to pay"),
        ({}, 400, "no such pack"),
    ],
)
def test_packs_that_are_not_sold(shop: Flask, form: dict[str, str], status: int, said: str) -> None:
    client = signed_in(shop)
    answer = client.post("/checkout", data=form | {"csrf_token": token(client)})
    assert answer.status_code == status and said in answer.text


def test_a_way_to_pay_that_is_not_configured(app_factory: AppFactory) -> None:
    client = signed_in(app_factory())
    form = {"pack": "pro", "method": "stripe", "csrf_token": token(client)}
    assert client.post("/checkout", data=form).status_code == 503


def test_a_provider_that_is_down(shop: Flask, stripe_server: SimulatedStripe) -> None:
    stripe_server.set_fault("*", status=500)
    client = signed_in(shop)
    form = {"pack": "pro", "method": "stripe", "csrf_token": token(client)}
    answer = client.post("/checkout", data=form)
    stripe_server.clear_faults()
    assert answer.status_code == 503 and "Nothing was charged" in answer.text
    assert answer.headers["retry-after"]


def test_the_way_back_asks_how_it_went(shop: Flask, redis_url: str) -> None:
    client = signed_in(shop)
    form = {"pack": "pro", "method": "stripe", "csrf_token": token(client)}
    client.post("/checkout", data=form)
    [order] = orders(shop)
    answer = client.get(f"/checkout/{order.number}?session_id={order.checkout_id}")
    assert answer.status_code == 200
    with redis.Redis.from_url(redis_url) as broker:
        assert "check_order" in str(broker.lrange("payments", 0, -1))
    other = signed_in(shop, "eve@example.com")
    assert other.get(f"/checkout/{order.number}").status_code == 404
    stranger = shop.test_client().get(f"/checkout/{order.number}")
    assert stranger.status_code == 401 and order.number not in stranger.text


def test_too_many_checkouts(shop: Flask) -> None:
    client = signed_in(shop)
    form = {"pack": "none", "method": "stripe", "csrf_token": token(client)}
    statuses = [client.post("/checkout", data=form).status_code for _ in range(32)]
    assert set(statuses[:30]) == {400} and set(statuses[30:]) == {429}
    with shop.app_context():
        assert db.session.query(User).count() == 1


def forms(page: str) -> list[str]:
    """Return the tokens of a page's forms to buy."""
    return re.findall(r'name="token" value="([^"]+)"', page)


def test_a_form_of_the_dashboard_buys_once(shop: Flask, stripe_server: SimulatedStripe) -> None:
    client = signed_in(shop)
    tokens = forms(client.get("/dashboard").text)
    # One for each of three packs and two ways to pay.
    assert len(set(tokens)) == 6 and not set(tokens) & set(forms(client.get("/dashboard").text))
    form = {"pack": "pro", "method": "stripe", "csrf_token": token(client), "token": tokens[0]}
    first = client.post("/checkout", data=form)
    assert client.post("/checkout", data=form).location == first.location
    [order] = orders(shop)
    stripe_server.pay(order.checkout_id or "")
    with shop.app_context(), transaction() as session:
        session.execute(text("UPDATE orders SET state = 'paid', credited_at = now()"))
    answer = client.post("/checkout", data=form)
    assert (answer.status_code, answer.location) == (303, f"/checkout/{order.number}?known=1")
    answer = client.post("/checkout", data=form | {"token": "odd"})
    assert answer.status_code == 400 and len(orders(shop)) == 1


def test_a_retry_after_a_failure_keeps_the_form(
    shop: Flask, stripe_server: SimulatedStripe
) -> None:
    stripe_server.set_fault("*", status=500)
    client = signed_in(shop)
    form = {"pack": "pro", "method": "stripe", "csrf_token": token(client), "token": "t" * 20}
    answer = client.post("/checkout", data=form)
    stripe_server.clear_faults()
    assert answer.status_code == 503
    # Try again is the first button, the other way to pay is a purchase of its own.
    again, other = forms(answer.text)
    assert again == form["token"] != other


def test_an_amount_of_the_customers_choice(
    app_factory: AppFactory, stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay
) -> None:
    values = configuration(stripe_server, btcpay_server)
    app = app_factory(pack_custom=CustomAmounts(100, 50_000), **values)
    Shop(app, "", stripe_server, btcpay_server).open()
    client = signed_in(app)
    form = {"pack": "custom", "method": "stripe", "csrf_token": token(client)}
    assert 'name="amount"' in client.get("/dashboard").text
    for amount, said in (("ten", "must be a number in USD"), ("0.50", "between $1.00 and $500.00")):
        answer = client.post("/checkout", data=form | {"amount": amount})
        assert answer.status_code == 400 and said in answer.text
        assert re.search(rf'id="amount"[^>]* value="{amount}"[^>]*aria-invalid', answer.text)
    assert orders(app) == []
    answer = client.post("/checkout", data=form | {"amount": "6.01"})
    [order] = orders(app)
    assert (answer.status_code, answer.location) == (303, order.checkout_url)
    assert (order.pack, order.tokens, order.amount_minor) == ("custom", 100_166_666, 601)
    # A provider that fails: the retry has the amount.
    stripe_server.set_fault("*", status=500)
    answer = client.post("/checkout", data=form | {"amount": "7.00"})
    stripe_server.clear_faults()
    assert answer.status_code == 503
    assert answer.text.count('name="amount" value="7.00"') == 2
    # An order that expired is offered again, for the same amount.
    with app.app_context(), transaction() as session:
        session.execute(text("UPDATE orders SET state = 'expired'"))
    page = client.get(f"/checkout/{order.number}").text
    assert page.count('name="amount" value="6.01"') == 2
    for path in ("/", "/AGENTS.md", "/llms.txt"):
        assert "$500.00" in client.get(path).text
