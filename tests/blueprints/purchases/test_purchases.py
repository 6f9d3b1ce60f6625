"""The packs on the dashboard, the pages of a purchase, and access to them."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from promptly.blueprints.purchases.purchases import WAITS
from promptly.clock import utcnow
from promptly.models.states import OrderState
from promptly.packs import Pack
from promptly.secret import Secret
from promptly.services.mail import outbox
from promptly.services.operator_mail import alerts
from promptly.services.operator_mail.topics import TOPICS
from promptly.services.payments import offers
from promptly.transactions import transaction
from tests.support import factories
from tests.support.servers import make_settings
from tests.support.signing import CONFIGURED

REFRESH = re.compile(r'http-equiv="refresh" content="(\d+); url=(/checkout/[-0-9A-Z]+\?look=\d+)"')


class Buyer:
    """An account with a signed-in client, and its orders."""

    def __init__(self, app: Flask, *, paid_tokens: int = 0) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()
        with app.app_context(), transaction():
            self.id = factories.user(paid_tokens=paid_tokens).id
            raw = factories.api_key(self.id)[1]
        self.client.post("/session", data={"key": raw})

    def order(self, **values: Any) -> str:
        """Create an order with these columns; return its number."""
        ordinary = {name: values.pop(name) for name in ("state", "provider") if name in values}
        with self.app.app_context(), transaction():
            order = factories.order(self.id, **ordinary)
            for name, value in values.items():
                setattr(order, name, value)
            return order.number

    def page(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, path
        return answer.text

    def purchase(self, path: str) -> str:
        """Return the text of a purchase's page."""
        return words(self.page(f"/checkout/{path}"))

    def buy(self, **form: str) -> Any:
        token = self.page("/dashboard").split('name="csrf_token" value="')[1].split('"')[0]
        return self.client.post("/checkout", data={"csrf_token": token, **form})


@pytest.fixture
def buyer(shop: Flask) -> Buyer:
    return Buyer(shop, paid_tokens=5_000)


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2]).split())


def queued(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.llen("payments"))


def raise_case(app: Flask, number: str, kind: str, resolution: str | None = None) -> None:
    with app.app_context(), transaction() as session:
        session.execute(
            text("""
                INSERT INTO payment_cases (order_id, provider, checkout_id, kind, detail,
                                           resolution, resolved_at)
                SELECT id, provider, checkout_id, :kind, 'x', :resolution,
                       CASE WHEN :resolution IS NULL THEN NULL ELSE now() END
                FROM orders WHERE number = :number
            """),
            {"number": number, "kind": kind, "resolution": resolution},
        )


@pytest.mark.parametrize("path", ["/checkout/{}", "/purchases/{}/receipt"])
def test_pages_of_other_accounts(shop: Flask, buyer: Buyer, path: str) -> None:
    number = buyer.order(state="paid", credited_at=utcnow())
    stranger = shop.test_client().get(path.format(number))
    assert stranger.status_code == 401 and number not in stranger.text
    other = Buyer(shop)
    assert other.client.get(path.format(number)).status_code == 404
    assert other.client.get(path.format("P-1")).status_code == 404


def test_the_receipt(buyer: Buyer) -> None:
    seller = {"name": "Works <Ltd>", "address": ["1 Mill Lane", "Ely"], "tax_id": "GB1"}
    paid = {"state": "paid", "credited_at": utcnow()}
    number = buyer.order(**paid, seller=seller, tax_minor=33, received_minor=240, provider="btcpay")
    page = buyer.page(f"/purchases/{number}/receipt")
    said = words(page)
    for shown in (
        "Works &lt;Ltd&gt; 1 Mill Lane Ely Tax ID: GB1",
        f"Number {number} Paid on {utcnow():%Y-%m-%d} Paid by Bitcoin Customer user",
        "1,000 tokens pack standard $2.00 including $0.33 tax Received $2.40 Total paid $2.40",
    ):
        assert shown in said
    assert "test mode" not in said and "<script" not in page and " style=" not in page
    assert "test mode" in buyer.page(f"/purchases/{buyer.order(**paid)}/receipt")
    # It is linked where the purchase is shown, and only once it is credited.
    link = f'href="/purchases/{number}/receipt"'
    for path in ("/dashboard", "/purchases", f"/checkout/{number}"):
        assert buyer.page(path).count(link) == 1
    unpaid = buyer.order()
    assert buyer.client.get(f"/purchases/{unpaid}/receipt").status_code == 404
    assert f"/purchases/{unpaid}/receipt" not in buyer.page(f"/checkout/{unpaid}")


def test_the_dashboard_sells_packs(buyer: Buyer) -> None:
    page = buyer.page("/dashboard")
    assert page.count('action="/checkout"') == 6
    for pack in ("starter", "standard", "pro"):
        assert page.count(f'name="pack" value="{pack}"') == 2
    text_ = words(page)
    for said in ("$0.50", "5,000,000 tokens", "Pay by card", "Pay with Bitcoin"):
        assert said in text_
    assert "by card or with Bitcoin" in buyer.page("/")


def test_unconfigured_providers_and_small_amounts_are_not_offered() -> None:
    settings = make_settings(packs=(Pack("tiny", 10, 20), Pack("large", 100, 200)))
    assert [offer.methods for offer in offers.offers(settings)] == [(), ()]
    settings = make_settings(packs=settings.packs, **CONFIGURED)
    methods = {offer.name: offer.methods for offer in offers.offers(settings)}
    assert methods == {"tiny": ("btcpay",), "large": ("stripe", "btcpay")}
    settings = make_settings(**{**CONFIGURED, "btcpay_api_key": Secret("")})
    assert {offer.methods for offer in offers.offers(settings)} == {("stripe",)}


def test_without_providers_nothing_can_be_bought(app: Flask) -> None:
    buyer = Buyer(app)
    page = buyer.page("/dashboard")
    assert 'action="/checkout"' not in page and "Online payment is not available" in page
    assert buyer.buy(pack="starter", method="stripe").status_code == 503


@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_a_provider_that_is_away(buyer: Buyer, method: str) -> None:
    # Neither provider's configured address has a listener.
    for _ in range(2):
        answer = buyer.buy(pack="standard", method=method)
        said = words(answer.text)
        assert answer.status_code == 503 and answer.headers["Cache-Control"] == "no-store"
        assert "Nothing was charged" in said and "Try again" in said
        assert answer.headers["retry-after"] and answer.headers["x-request-id"] in said
        other = {"stripe": "Pay with Bitcoin", "btcpay": "Pay by card"}[method]
        assert other in said
    with buyer.app.app_context(), transaction() as session:
        query = text("SELECT count(*) FROM orders WHERE user_id = :id")
        assert session.scalar(query, {"id": buyer.id}) == 1


@pytest.mark.parametrize(
    "form", [{"pack": "none", "method": "stripe"}, {"pack": "pro", "method": "cash"}, {}]
)
def test_a_wrong_form(buyer: Buyer, form: dict[str, str]) -> None:
    assert buyer.buy(**form).status_code == 400


def test_a_form_without_its_token(buyer: Buyer) -> None:
    answer = buyer.client.post("/checkout", data={"pack": "pro", "method": "stripe"})
    assert answer.status_code == 400


def test_who_is_not_signed_in_learns_nothing(shop: Flask, buyer: Buyer) -> None:
    number = buyer.order()
    stranger = shop.test_client()
    real, none = (stranger.get(f"/checkout/{name}") for name in (number, "P-NONE"))
    assert (real.status_code, real.text) == (none.status_code, none.text) == (401, none.text)
    assert number not in real.text and real.headers["Cache-Control"] == "no-store"
    assert stranger.get("/purchases").location == "/"
    other = Buyer(shop)
    assert other.client.get(f"/checkout/{number}").status_code == 404
    assert other.client.get(f"/purchases?before={number}").status_code == 404


def test_every_state_has_a_page(buyer: Buyer) -> None:
    for state in OrderState:
        credited = utcnow() if state in ("paid", "refunded", "disputed") else None
        number = buyer.order(state=state, credited_at=credited)
        page = buyer.page(f"/checkout/{number}")
        said = words(page)
        assert number in said and "standard, 1,000 tokens" in said and "$2.00, by card" in said
        assert ("have been credited. Your balance is now 5,000 tokens" in said) is (state == "paid")
        assert bool(REFRESH.search(page)) is (state in WAITS), state
        assert "cs_" not in page and " style=" not in page


def test_the_page_looks_again_a_bounded_time(buyer: Buyer, redis_url: str) -> None:
    number = buyer.order()
    path, seconds = f"/checkout/{number}", 0
    for look in range(100):
        found = REFRESH.search(buyer.page(path))
        if found is None:
            break
        seconds += int(found[1])
        path = found[2]
        assert path.endswith(f"look={look + 1}")
    assert 180 < seconds < 1800 and look == len(WAITS["open"])
    assert "Check again" in buyer.purchase(f"{number}?look={look}")
    # Only the first look queued a check: `checked_at` is still too recent for another.
    assert queued(redis_url) == 1
    with buyer.app.app_context(), transaction() as session:
        session.execute(text("UPDATE orders SET checked_at = now() - interval '9 seconds'"))
    buyer.page(path)
    assert queued(redis_url) == 2
    for odd in ("x", "-1", "9" * 30, "²"):
        assert REFRESH.search(buyer.page(f"/checkout/{number}?look={odd}"))


def test_a_customer_who_left_the_providers_page(buyer: Buyer) -> None:
    number = buyer.order(expires_at=utcnow() + timedelta(hours=1))
    page = buyer.page(f"/checkout/{number}?canceled=1")
    assert "Payment not completed" in page and "Continue to payment" in page
    assert "https://pay.example.com/" in page and not REFRESH.search(page)
    paid = buyer.order(state="paid", credited_at=utcnow())
    assert "Payment received" in buyer.purchase(f"{paid}?canceled=1")


def mail_operator(app: Flask) -> None:
    """Queue the alert about open cases, as the periodic task does with OPERATOR_EMAIL set."""
    settings = replace(app.extensions["settings"], operator_email="operator@example.com")
    with app.app_context(), transaction() as session:
        # So many are sent in an hour at most.
        session.execute(text("UPDATE operator_alerts SET created_at = now() - interval '2 hours'"))
        before = outbox.count("pending")
        alerts.report(next(topic for topic in TOPICS if topic.name == "case"), settings)
        assert outbox.count("pending") == before + 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("paid_partial", "Payment incomplete"),
        ("paid_late", "Payment received late"),
        ("unconfirmed", "Payment not confirmed"),
        ("currency", "Payment under review"),
    ],
)
def test_odd_payments(buyer: Buyer, kind: str, said: str) -> None:
    number = buyer.order(state="attention", provider="btcpay")
    raise_case(buyer.app, number, kind)
    page = buyer.purchase(number)
    assert said in page and "credited" in page
    assert "notified" not in page and "If you do not hear from us, contact us" in page
    mail_operator(buyer.app)
    page = buyer.purchase(number)
    assert "We have been notified" in page and "If you have questions, contact us" in page
    dismissed = buyer.order(state="expired", provider="btcpay")
    raise_case(buyer.app, dismissed, kind, "dismiss")
    assert "Closed without credit" in buyer.purchase(dismissed)


def half_paid(buyer: Buyer, **values: Any) -> str:
    """Create an order of $2.00 of which $1.00 has come."""
    amounts = {"seen_minor": 100, "due_satoshis": 1_234}
    return buyer.order(**{"provider": "btcpay", **amounts, **values})


def test_bitcoin_that_is_half_paid(buyer: Buyer) -> None:
    until = utcnow() + timedelta(minutes=12, seconds=1)
    number = half_paid(buyer, expires_at=until)
    page = buyer.page(f"/checkout/{number}?canceled=1")
    said = words(page)
    assert "$1.00 of $2.00 has arrived" in said and "$1.00 ( 0.00001234 BTC ) is still due" in said
    assert f"until {until:%Y-%m-%d %H:%M} UTC" in said and "12 minutes left" in said
    assert REFRESH.search(page) and re.search(r'href="https://pay[^"]+">Pay the rest<', page)
    assert "partly paid" in buyer.page("/dashboard")
    unknown = buyer.purchase(half_paid(buyer, due_satoshis=None))
    assert "$1.00 is still due" in unknown
    # Its time is over, although the provider has not said so yet: nothing more is to be paid.
    page = buyer.page(f"/checkout/{half_paid(buyer, expires_at=utcnow())}")
    assert "The time to pay has run out" in page and "https://pay" not in page
    assert REFRESH.search(page) and "the rest of the payment arrived" in page


def test_half_of_the_price_when_the_time_is_over(buyer: Buyer) -> None:
    number = half_paid(buyer, state="attention")
    raise_case(buyer.app, number, "paid_partial")
    said = buyer.purchase(number)
    assert "$1.00 of $2.00 arrived before the time to pay ran out" in said
    assert "We will either credit the tokens or return" in said and "we email you a link" in said


@pytest.mark.parametrize(
    ("state", "again"), [("processing", True), ("paid", True), ("open", False)]
)
def test_a_click_that_led_to_a_known_purchase(buyer: Buyer, state: str, again: bool) -> None:
    number = buyer.order(state=state)
    page = buyer.page(f"/checkout/{number}?known=1")
    assert ("led you to this purchase" in words(page)) is again
    assert page.count("Buy it once more") == page.count('name="again" value="1"') == again
    # The pages that follow by themselves do not forget it.
    assert ("known=1" in page) is (state != "paid")
    assert "once more" not in buyer.page(f"/checkout/{number}")


def test_a_surplus(buyer: Buyer) -> None:
    number = buyer.order(state="paid", provider="btcpay", credited_at=utcnow())
    assert "more than the price" not in buyer.purchase(number)
    raise_case(buyer.app, number, "paid_over")
    page = buyer.purchase(number)
    assert "Payment received" in page and "You paid more than the price. We will" in page
    mail_operator(buyer.app)
    assert "more than the price. We have been notified and will" in buyer.purchase(number)


def test_a_credited_surplus_belongs_to_the_purchase(buyer: Buyer) -> None:
    number = buyer.order(
        state="paid", credited_at=utcnow(), tokens=1500, credited_surplus_minor=100
    )
    page = buyer.purchase(number)
    assert "standard, 1,500 tokens" in page and "Price $3.00" in page


def test_the_history(buyer: Buyer) -> None:
    numbers = [buyer.order(state="expired") for _ in range(54)]
    numbers.append(
        buyer.order(
            state="partly_refunded",
            credited_at=utcnow(),
            tokens_taken=400,
            tokens_owed=100,
            refunded_minor=100,
            reversed_minor=100,
        )
    )
    dashboard = words(buyer.page("/dashboard"))
    assert "partly refunded + 1,000 − 400 taken back 100 owed" in dashboard
    assert numbers[-5] in dashboard and numbers[-6] not in dashboard
    path, seen = "/purchases", []
    for _ in range(3):
        page = buyer.page(path)
        seen += re.findall(r">(P-[-0-9A-Z]+)<", page)
        older = re.search(r'href="(/purchases\?before=[^"]+)"', page)
        path = older[1] if older else ""
    assert seen == numbers[::-1] and path == ""
    said = buyer.purchase(numbers[-1])
    assert "$1.00 of $2.00 has been refunded" in said and "400 unspent" in said
    assert "not taken from other purchases" in said


@pytest.mark.parametrize("number", ["P-1", "%00", "P-2222-2222-2222", "x" * 300])
def test_an_invalid_number_has_no_page(buyer: Buyer, number: str) -> None:
    assert buyer.client.get(f"/checkout/{number}").status_code == 404
    assert buyer.client.get(f"/purchases?before={number}").status_code == 404
