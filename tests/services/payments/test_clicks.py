"""Double clicks, reloads and the back button: they lead to one purchase, at both providers."""

from functools import partial

import pytest

from promptly.errors import InvalidRequest, PaymentUnavailable
from promptly.services.payments import checkout
from promptly.services.payments.clicks import new_form_token
from tests.support.races import together
from tests.support.shop import Shop

METHODS = ("stripe", "btcpay")


def click(shop: Shop, user_id: int, method: str, **form: object) -> str:
    """Send the form of the standard pack; return where it leads."""
    with shop.app.app_context():
        return checkout.start(user_id, "standard", method, shop.settings, **form)  # type: ignore[arg-type]


def pay(shop: Shop, method: str, page: str, *, confirmed: bool = True) -> None:
    """Pay a page, by a method that waits unless it is to be `confirmed`, and hear of it."""
    if method == "stripe":
        shop.stripe.pay(page, delayed=not confirmed)
    else:
        shop.btcpay.pay(page, method="BTC-LN" if confirmed else "BTC-CHAIN")
    shop.reconcile()


def age(shop: Shop, minutes: int) -> None:
    """Move the creation of every order into the past."""
    shop.rows("UPDATE orders SET created_at = created_at - make_interval(mins => :m)", m=minutes)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("same_form", [True, False])
def test_two_clicks_at_once(
    shop: Shop, method: str, same_form: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "OTHER_CLICK_SECONDS", 30.0)  # however slow the machine is
    user_id = shop.account()
    forms = [new_form_token()] * 4 if same_form else [new_form_token() for _ in range(4)]
    calls = [partial(click, shop, user_id, method, form_token=form) for form in forms]
    assert len(set(together(shop.app, *calls))) == 1
    assert len(shop.orders()) == 1


@pytest.mark.parametrize("method", METHODS)
def test_going_back_from_the_providers_page(shop: Shop, method: str) -> None:
    """A page that is still open is continued, however long the customer looked at it."""
    user_id = shop.account()
    first = click(shop, user_id, method, form_token=new_form_token())
    age(shop, 25)
    assert click(shop, user_id, method, form_token=new_form_token()) == first
    assert len(shop.orders()) == 1
    # Nobody can pay it any more, although its provider has not reported that yet.
    shop.rows("UPDATE orders SET expires_at = now()")
    assert click(shop, user_id, method, form_token=new_form_token()) != first
    assert len(shop.orders()) == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_form_that_is_sent_again_after_the_payment(shop: Shop, method: str) -> None:
    """The browser repeats a POST, or shows the page from before the payment again."""
    user_id, form = shop.account(), new_form_token()
    click(shop, user_id, method, form_token=form)
    pay(shop, method, shop.orders()[0]["checkout_id"])
    number = shop.orders()[0]["number"]
    assert shop.history(user_id) == ["paid"]
    again = [partial(click, shop, user_id, method, form_token=form) for _ in range(4)]
    assert set(together(shop.app, *again)) == {f"/checkout/{number}?known=1"}
    assert len(shop.orders()) == 1
    # The form of a page that was loaded since buys the pack a second time.
    assert click(shop, user_id, method, form_token=new_form_token()).startswith("http")
    assert len(shop.orders()) == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_payment_on_its_way_is_not_made_twice(shop: Shop, method: str) -> None:
    user_id = shop.account()
    click(shop, user_id, method, form_token=new_form_token())
    pay(shop, method, shop.orders()[0]["checkout_id"], confirmed=False)
    number = shop.orders()[0]["number"]
    assert shop.history(user_id) == ["processing"]
    for form in (new_form_token(), ""):
        there = click(shop, user_id, method, form_token=form)
        assert there == f"/checkout/{number}?known=1"
    # Only the form that says so buys it once more, and only once.
    form = new_form_token()
    calls = [partial(click, shop, user_id, method, form_token=form, again=True) for _ in range(3)]
    [page] = set(together(shop.app, *calls))
    assert page.startswith("http") and len(shop.orders()) == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_form_serves_again_once_its_purchase_has_failed(shop: Shop, method: str) -> None:
    user_id, form = shop.account(), new_form_token()
    first = click(shop, user_id, method, form_token=form)
    shop.rows("UPDATE orders SET state = 'expired'")
    assert click(shop, user_id, method, form_token=form) != first
    assert len(shop.orders()) == 2


def test_a_form_that_is_filled_in_differently_buys_something_else(shop: Shop) -> None:
    user_id, form = shop.account(), new_form_token()
    pages = {click(shop, user_id, method, form_token=form) for method in METHODS}
    with shop.app.app_context():
        pages.add(checkout.start(user_id, "pro", "stripe", shop.settings, form_token=form))
    assert len(pages) == len(shop.orders()) == 3
    # Another account's form with the same token finds none of them.
    other = shop.account()
    assert click(shop, other, "stripe", form_token=form) not in pages


def test_a_half_paid_invoice_is_continued(shop: Shop) -> None:
    user_id = shop.account()
    first = click(shop, user_id, "btcpay")
    shop.btcpay.pay(shop.orders()[0]["checkout_id"], share="0.5")
    shop.reconcile()
    age(shop, 25)
    assert click(shop, user_id, "btcpay", form_token=new_form_token()) == first


def test_an_unanswered_invoice_is_closed_although_the_customer_retries(shop: Shop) -> None:
    """BTCPay has no idempotency keys: retries only look for it, and do not extend the wait."""
    user_id, form = shop.account(), new_form_token()
    shop.btcpay.set_fault("POST /api/v1/stores/*/invoices", cut=True)
    for minutes in (0, 6, 6):
        shop.rows("UPDATE orders SET called_at = called_at - make_interval(mins => :m)", m=minutes)
        age(shop, minutes)
        with pytest.raises(PaymentUnavailable):
            click(shop, user_id, "btcpay", form_token=form)
    shop.btcpay.clear_faults()
    assert len(shop.orders()) == 1
    shop.reconcile()
    assert shop.history(user_id) == ["failed"]
    assert click(shop, user_id, "btcpay", form_token=form).startswith("http")
    assert shop.history(user_id) == ["open", "failed"]


@pytest.mark.parametrize("form", ["short", "x" * 65, "sixteen or more!!"])
def test_a_token_of_another_shape(shop: Shop, form: str) -> None:
    with pytest.raises(InvalidRequest) as problem:
        click(shop, shop.account(), "stripe", form_token=form)
    assert problem.value.param == "token" and shop.orders() == []
