"""Refunds: confirmed with the tokens they take, made once, audited with their actor."""

import pytest
from sqlalchemy import text

from promptly.transactions import transaction
from tests.blueprints.admin.panel import Panel
from tests.support import factories
from tests.support.factories import order as make_order
from tests.support.shop import Shop

TOKENS = 25_000_000


def bought(shop: Shop, spent: int = 0) -> tuple[int, str]:
    """Buy a standard pack for $2.00, spend `spent` tokens; return account id and order number."""
    user_id = shop.account()
    page = shop.buy(user_id)
    shop.reconcile()
    if spent:
        shop.spend(user_id, spent)
    return user_id, shop.order_of(page)["number"]


def test_a_refund_of_the_unspent_part(shop: Shop, shop_pages: Panel) -> None:
    user_id, number = bought(shop, spent=TOKENS // 2)
    assert 'name="amount" type="text" inputmode="decimal" value="1.00"' in shop_pages.page(
        f"/admin/purchases/{number}"
    )
    path = f"/admin/purchases/{number}/refund?amount=1.00"
    question = shop_pages.words(path)
    for sentence in ("Refund $1.00?", number, "user", "Received $2.00 Given back $0.00",
                     "Stripe returns $1.00 to the customer.",
                     "12,500,000 unspent tokens are taken back."):  # fmt: skip
        assert sentence in question, sentence
    words = shop_pages.confirm(path)
    assert "A refund of $1.00 was recorded" in words and "refund succeeded $1.00" in words
    assert shop.orders()[0]["state"] == "partly_refunded" and shop.paid_tokens(user_id) == 0
    [(action, account, subject, before, after)] = shop_pages.audited()
    assert (action, account, subject) == ("payment.refund", user_id, number)
    assert before == {"state": "paid", "reversed_minor": 0}
    assert after == {
        "state": "partly_refunded", "amount_minor": 100, "currency": "USD", "by_hand": False,
        "tokens_taken": TOKENS // 2, "tokens_owed": 0,
    }  # fmt: skip
    assert shop.rows("SELECT actor FROM payment_reversals") == [{"actor": "panel:admin"}]


def test_a_button_pressed_twice_refunds_once(shop: Shop, shop_pages: Panel) -> None:
    _, number = bought(shop)
    path = f"/admin/purchases/{number}/refund"
    fields = shop_pages.form(f"{path}?amount=0.50", path)
    shop_pages.post(path, fields)
    assert "has changed since this page was loaded" in shop_pages.post(path, fields, 400)
    assert shop.orders()[0]["refunded_minor"] == 50 and len(shop_pages.audited()) == 1


def test_a_refund_by_hand_is_only_written_down(shop: Shop, shop_pages: Panel) -> None:
    user_id, number = bought(shop)
    path = f"/admin/purchases/{number}/refund?amount=2&by_hand=1"
    assert "$2.00 is only recorded: you have returned the money yourself." in shop_pages.words(path)
    assert "by hand" in shop_pages.confirm(path)
    assert shop.stripe.requests("POST /v1/refunds") == []
    assert shop.paid_tokens(user_id) == 0 and shop_pages.audited()[0][4]["by_hand"] is True


def test_a_refund_that_the_provider_refuses(shop: Shop, shop_pages: Panel) -> None:
    user_id, number = bought(shop)
    shop.stripe.set_fault("POST /v1/refunds", status=400)
    words = shop_pages.confirm(f"/admin/purchases/{number}/refund?amount=2")
    assert "refund failed" in words and shop.paid_tokens(user_id) == TOKENS


@pytest.mark.parametrize("amount", ["", "0", "2.01", "-1", "1.001", "1e9", "abc", "١"])
def test_amounts_that_cannot_be(shop: Shop, shop_pages: Panel, amount: str) -> None:
    _, number = bought(shop)
    shop_pages.page(f"/admin/purchases/{number}/refund?amount={amount}", 400)


@pytest.mark.parametrize(
    "change",
    [{"user_id": "1000"}, {"user_id": ""}, {"amount_minor": "201"}, {"amount_minor": "x"},
     {"csrf_token": "x"}, {"seen": "7"}],
)  # fmt: skip
def test_forms_that_do_not_fit(shop: Shop, shop_pages: Panel, change: dict[str, str]) -> None:
    _, number = bought(shop)
    path = f"/admin/purchases/{number}/refund"
    shop_pages.post(path, shop_pages.form(f"{path}?amount=1", path) | change, 400)
    assert shop_pages.audited() == [] and shop.orders()[0]["state"] == "paid"


def test_uncredited_orders_are_not_refunded(pages: Panel) -> None:
    with pages.app.app_context(), transaction():
        number = make_order(factories.user().id).number
    assert 'name="amount"' not in pages.page(f"/admin/purchases/{number}")
    pages.page(f"/admin/purchases/{number}/refund?amount=1", 400)


def test_a_deleted_account_is_refunded_without_tokens(shop: Shop, shop_pages: Panel) -> None:
    user_id, number = bought(shop)
    with shop.app.app_context(), transaction() as session:
        session.execute(text("DELETE FROM users WHERE id = :id"), {"id": user_id})
    path = f"/admin/purchases/{number}/refund?amount=2"
    assert "No tokens are taken: the account has been deleted." in shop_pages.words(path)
    assert "refund succeeded" in shop_pages.confirm(path)
