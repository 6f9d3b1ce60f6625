"""Starting a checkout at a provider, also when the provider fails."""

import threading
import time
from datetime import UTC, datetime
from functools import partial
from urllib.parse import parse_qsl

import pytest

from promptly.errors import InvalidRequest, PaymentRefused, PaymentUnavailable, PromptlyError
from promptly.models import Order
from promptly.services import account_deletion
from promptly.services.payments import checkout, orders
from promptly.services.payments.orders import Leased
from promptly.services.payments.providers import registry
from promptly.settings import current_settings
from promptly.transactions import transaction
from tests.support.books import wait_for
from tests.support.races import together
from tests.support.servers import make_settings
from tests.support.shop import Json, Shop

SESSIONS = "POST /v1/checkout/sessions"
INVOICES = "POST /api/v1/stores/*/invoices"
METHODS = ("stripe", "btcpay")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CUSTOMER_WAITS_SECONDS", 0.6)


def pages(shop: Shop) -> int:
    """Return the number of checkout pages at both providers."""
    return len(shop.stripe.truth()) + len(shop.btcpay.truth())


def fault(shop: Shop, method: str, **values: object) -> None:
    if method == "stripe":
        shop.stripe.set_fault(SESSIONS, **values)
    else:
        shop.btcpay.set_fault(INVOICES, **values)


def end_faults(shop: Shop) -> None:
    shop.stripe.clear_faults()
    shop.btcpay.clear_faults()


def attempt(shop: Shop, user_id: int, method: str) -> str:
    """Click to buy; return the URL it leads to, or the name of the error's class."""
    try:
        return shop.start(user_id, method=method)
    except PromptlyError as problem:
        return type(problem).__name__


def age(shop: Shop, minutes: int = 11) -> None:
    """Move every order `minutes` into the past, and end its lease."""
    shop.rows(
        "UPDATE orders SET called_at = called_at - make_interval(mins => :m),"
        " created_at = created_at - make_interval(mins => :m), leased_until = NULL",
        m=minutes,
    )


def test_the_session_sent_to_stripe(shop: Shop) -> None:
    user_id = shop.account()
    url = shop.start(user_id, "pro")
    [order] = shop.orders(user_id)
    session = shop.stripe.object(order["checkout_id"])
    assert (order["state"], order["checkout_url"], session["url"]) == ("open", url, url)
    assert (session["amount_total"], session["currency"]) == (600, "usd")
    assert session["client_reference_id"] == order["number"]
    [known] = shop.rows("SELECT instance_id FROM installations")
    assert session["metadata"] == {
        "promptly_order": order["number"],
        "promptly_instance": known["instance_id"],
    }
    assert session["expires_at"] == int(order["expires_at"].timestamp())
    base = shop.settings.base_url
    back = f"{base}/checkout/{order['number']}"
    assert session["success_url"] == f"{back}?session_id={{CHECKOUT_SESSION_ID}}"
    assert session["cancel_url"] == f"{back}?canceled=1"
    [asked] = shop.stripe.requests(SESSIONS)
    assert asked["headers"]["idempotency-key"] == f"{order['number']}-1"
    given = dict(parse_qsl(asked["body"]))
    assert given["payment_intent_data[metadata][promptly_order]"] == order["number"]
    assert given["automatic_tax[enabled]"] == given["invoice_creation[enabled]"] == "false"
    [account] = shop.rows("SELECT email FROM users")
    assert given["customer_email"] == account["email"]


def test_the_invoice_sent_to_btcpay(shop: Shop) -> None:
    user_id = shop.account()
    url = shop.start(user_id, "standard", "btcpay")
    [order] = shop.orders(user_id)
    invoice = shop.btcpay.invoice(order["checkout_id"])
    assert (order["state"], order["checkout_url"]) == ("open", url)
    assert (invoice["amount"], invoice["currency"], invoice["checkoutLink"]) == ("2.00", "USD", url)
    assert invoice["metadata"]["orderId"] == order["number"]
    back = f"{shop.settings.base_url}/checkout/{order['number']}"
    assert invoice["checkout"]["redirectURL"] == back
    assert order["expires_at"] == datetime.fromtimestamp(invoice["expirationTime"], UTC)


@pytest.mark.parametrize("method", METHODS)
def test_a_second_click_leads_to_the_same_page(shop: Shop, method: str) -> None:
    user_id = shop.account()
    urls = {shop.start(user_id, method=method) for _ in range(3)}
    assert (len(urls), len(shop.orders()), pages(shop)) == (1, 1, 1)
    # Another pack or another account makes another purchase.
    shop.start(user_id, "pro", method)
    shop.start(shop.account(), method=method)
    assert (len(shop.orders()), pages(shop)) == (3, 3)


@pytest.mark.parametrize("method", METHODS)
def test_many_clicks_at_once_lead_to_one_page(
    shop: Shop, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "OTHER_CLICK_SECONDS", 30.0)  # however slow the machine is
    user_id = shop.account()
    fault(shop, method, seconds=0.5, times=1)
    results = set(together(shop.app, *[partial(attempt, shop, user_id, method)] * 8))
    assert results == {shop.start(user_id, method=method)}
    assert (len(shop.orders()), pages(shop)) == (1, 1)


def test_a_click_does_not_wait_for_ever(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "OTHER_CLICK_SECONDS", 0.2)
    user_id = shop.account()
    fault(shop, "stripe", cut=True, times=3)
    assert attempt(shop, user_id, "stripe") == "PaymentUnavailable"
    shop.rows("UPDATE orders SET leased_by = 'other', leased_until = now() + interval '1 hour'")
    assert attempt(shop, user_id, "stripe") == "PaymentUnavailable"
    assert (len(shop.orders()), pages(shop)) == (1, 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_click_that_is_overtaken_leads_to_the_same_page(
    shop: Shop, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the order while the first click creates the page, and leases it afterwards."""
    user_id = shop.account()
    leased, read, answered = (threading.Event() for _ in range(3))
    lease, locked_by = orders.lease, orders.locked_by

    def lease_later(order_id: int) -> Leased | None:
        if leased.is_set():
            read.set()
            assert answered.wait(20)
        found = lease(order_id)
        leased.set()
        return found

    def locked_once_read(order_id: int, holder: str) -> Order | None:
        assert read.wait(20)
        return locked_by(order_id, holder)

    def first() -> str:
        url = shop.start(user_id, method=method)
        answered.set()
        return url

    def second() -> str:
        assert leased.wait(20)
        return shop.start(user_id, method=method)

    monkeypatch.setattr(orders, "lease", lease_later)
    monkeypatch.setattr(orders, "locked_by", locked_once_read)
    assert len(set(together(shop.app, first, second))) == 1
    assert (len(shop.orders()), pages(shop)) == (1, 1)
    assert shop.orders()[0]["leased_by"] is None


def test_an_account_that_is_closed_meanwhile_buys_nothing(shop: Shop) -> None:
    """The click waits for the account's lock while the deletion closes the account."""
    user_id = shop.account()
    closed = threading.Event()

    def click_waits() -> bool:
        waiting = "datname = current_database() AND wait_event_type = 'Lock'"
        return bool(shop.rows(f"SELECT 1 FROM pg_stat_activity WHERE {waiting}"))

    def close() -> str:
        with transaction():
            account_deletion.close(user_id, current_settings())
            closed.set()
            wait_for(click_waits, "a click that waits for the account")
        return "closed"

    def click() -> str:
        assert closed.wait(20)
        return attempt(shop, user_id, "stripe")

    assert together(shop.app, close, click) == ["closed", "NotFound"]
    assert attempt(shop, user_id, "stripe") == attempt(shop, user_id + 1, "stripe") == "NotFound"
    assert (shop.orders(), pages(shop)) == ([], 0)


def test_a_paid_purchase_is_not_continued(shop: Shop) -> None:
    user_id = shop.account()
    shop.buy(user_id)
    shop.reconcile()
    shop.buy(user_id)
    shop.reconcile()
    assert shop.history(user_id) == ["paid", "paid"]


@pytest.mark.parametrize(
    ("pack", "method", "param"), [("huge", "stripe", "pack"), ("pro", "paypal", "method")]
)
def test_packs_that_are_not_sold(shop: Shop, pack: str, method: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as problem:
        shop.start(shop.account(), pack, method)
    assert problem.value.param == param
    assert shop.orders() == []


# Name, fault, error that the customer gets, and whether the page was created despite the fault.
FAULTS: list[tuple[str, Json, str, bool]] = [
    ("the connection breaks", {"cut": True, "times": 1}, "PaymentUnavailable", False),
    ("the answer is lost", {"cut": True, "when": "after"}, "PaymentUnavailable", True),
    ("it has an error", {"status": 500}, "PaymentUnavailable", False),
    ("a proxy has", {"status": 503}, "PaymentUnavailable", False),
    ("an error after the work", {"status": 500, "when": "after"}, "PaymentUnavailable", True),
    ("it is slow", {"seconds": 1.2}, "PaymentUnavailable", True),
    ("its answer is slow", {"seconds": 1.2, "when": "after"}, "PaymentUnavailable", True),
    ("our key is refused", {"status": 401}, "PaymentUnavailable", False),
    ("too many calls", {"status": 429}, "PaymentUnavailable", False),
    ("it will not", {"status": 400}, "PaymentRefused", False),
]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("values", "error", "made"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS]
)
def test_a_provider_in_trouble(
    shop: Shop, method: str, values: Json, error: str, made: bool
) -> None:
    """The customer gets one clear error; afterwards at most one order can be paid."""
    user_id = shop.account()
    if values.get("times") and method == "stripe":
        # The SDK retries by itself.
        values = values | {"times": 3}
    fault(shop, method, **values)
    assert attempt(shop, user_id, method) == error
    end_faults(shop)
    if values.get("seconds"):
        time.sleep(1.3)  # the slow call is finished now, whether or not we waited
    [order] = shop.orders(user_id)
    assert order["state"] == ("failed" if error == "PaymentRefused" else "created")
    assert order["last_error"]
    # The next click uses the same order, unless it failed, and creates at most one page.
    again = attempt(shop, user_id, method)
    numbers = {row["number"] for row in shop.orders(user_id)}
    if error == "PaymentRefused":
        assert again.startswith("http") and len(numbers) == 2
    elif method == "btcpay" and not made and order["unanswered"]:
        # BTCPay may still create the invoice and has no idempotency keys: no second try that soon.
        assert again == "PaymentUnavailable" and len(numbers) == 1
    else:
        assert again.startswith("http") and len(numbers) == 1
    # An error after the work can leave a page that no customer was sent to.
    told_after_work = values.get("when") == "after" and values.get("status") == 500
    assert pages(shop) <= (2 if told_after_work else 1)
    # Reconciliation resolves orders that are left in between.
    age(shop)
    shop.reconcile()
    assert {row["state"] for row in shop.orders(user_id)} <= {"open", "failed"}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("method", METHODS)
def test_an_answer_that_got_lost_is_found(shop: Shop, method: str) -> None:
    user_id = shop.account()
    fault(shop, method, cut=True, when="after")
    assert attempt(shop, user_id, method) == "PaymentUnavailable"
    end_faults(shop)
    report = shop.reconcile()
    [order] = shop.orders(user_id)
    assert (order["state"], pages(shop)) == ("open", 1)
    assert report["changed"] == [{"number": order["number"], "before": "created", "after": "open"}]
    assert shop.start(user_id, method=method) == order["checkout_url"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("method", METHODS)
def test_an_order_without_a_page_is_closed_after_a_while(shop: Shop, method: str) -> None:
    user_id = shop.account()
    fault(shop, method, cut=True)
    assert attempt(shop, user_id, method) == "PaymentUnavailable"
    end_faults(shop)
    shop.reconcile()
    assert shop.history(user_id) == ["created"]
    age(shop)
    shop.reconcile()
    [order] = shop.orders(user_id)
    assert (order["state"], order["last_error"]) == (
        "failed",
        "the provider has no page for this order",
    )


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("method", METHODS)
def test_a_page_whose_answer_got_lost_is_paid_all_the_same(shop: Shop, method: str) -> None:
    """No customer was sent to the page, but if it is paid, the webhook finds its order."""
    user_id = shop.account()
    fault(shop, method, cut=True, when="after")
    attempt(shop, user_id, method)
    end_faults(shop)
    shop.rows("UPDATE orders SET leased_until = NULL")
    if method == "stripe":
        shop.stripe.pay(shop.stripe.truth()[0]["session_id"])
        shop.stripe.wait_until_quiet()
    else:
        shop.btcpay.pay(shop.btcpay.truth()[0]["invoice_id"])
        shop.btcpay.wait_until_quiet()
    shop.work()
    assert shop.history(user_id) == ["paid"]
    assert shop.paid_tokens(user_id) == 25_000_000


@pytest.mark.usefixtures("impatient")
def test_stripe_repeats_its_error_and_another_key_gets_past_it(shop: Shop) -> None:
    user_id = shop.account()
    fault(shop, "stripe", status=500, kept=True, times=1)
    assert attempt(shop, user_id, "stripe") == "PaymentUnavailable"
    assert attempt(shop, user_id, "stripe").startswith("http")
    [order] = shop.orders(user_id)
    keys = [item["headers"]["idempotency-key"] for item in shop.stripe.requests(SESSIONS)]
    assert keys[-1] == f"{order['number']}-2" and set(keys[:-1]) == {f"{order['number']}-1"}


def test_a_refusal_is_explained_clearly(shop: Shop) -> None:
    """Stripe checks its minimum after conversion, so it may refuse a price that we accept."""
    user_id = shop.account()
    fault(shop, "stripe", status=402, times=1)
    with pytest.raises(PaymentRefused) as problem:
        shop.start(user_id)
    assert "refused" in problem.value.message and "Nothing was charged" in problem.value.message
    assert shop.history(user_id) == ["failed"]


def test_a_provider_that_is_not_configured(shop: Shop) -> None:
    user_id = shop.account()
    with shop.app.app_context(), pytest.raises(PaymentUnavailable, match="not available"):
        checkout.start(user_id, "pro", "stripe", make_settings())
    assert shop.orders() == []


def test_a_redirect_does_not_carry_our_key_elsewhere(shop: Shop) -> None:
    """For example BTCPay's http URL redirects to https: refused, so that the operator fixes it."""
    fault(shop, "btcpay", status=302, times=1)
    with pytest.raises(PaymentRefused):
        shop.start(shop.account(), method="btcpay")
