"""Purchases of the gateway before promptly: imported, or paid on its pages around the switch."""

from typing import Any

import pytest

from promptly.clients.btcpay import BTCPayAPI
from promptly.clients.stripe import StripeAPI
from promptly.services.audit import Operator
from promptly.services.imports import accounts
from promptly.services.imports.outcome import Report
from promptly.services.imports.source import SourceAccount
from promptly.transactions import transaction
from tests.support import model_gateway
from tests.support.shop import Shop

TOKENS, CENTS = 1000, 200
METHODS = ["stripe", "btcpay"]


def old_page(shop: Shop, method: str) -> str:
    """Create a page as model-gateway did, which promptly knows nothing of; return its id."""
    if method == "stripe":
        stripe = StripeAPI(shop.settings, 20.0)
        price: Any = {"currency": "usd", "unit_amount": CENTS, "product_data": {"name": "tokens"}}
        params: Any = {
            "mode": "payment",
            "line_items": [{"quantity": 1, "price_data": price}],
            "metadata": {"user_id": "1"},
            # The shop adds tax by default.
            "automatic_tax": {"enabled": False},
            "success_url": "https://old.example.com/",
        }
        made = stripe.create_session(params, "old-gateway")
        stripe.close()
    else:
        btcpay = BTCPayAPI(shop.settings, 20.0)
        metadata = {"orderId": "user-1"}
        made = btcpay.create_invoice({"amount": "2.00", "currency": "USD", "metadata": metadata})
        btcpay.close()
    return str(made["id"])


def pay(shop: Shop, page: str, method: str) -> None:
    if method == "stripe":
        shop.stripe.pay(page)
    else:
        shop.btcpay.pay(page)
    shop.stripe.wait_until_quiet()
    shop.btcpay.wait_until_quiet()


def bring(shop: Shop, account: SourceAccount) -> int:
    """Import one account; return its number here."""
    with shop.app.app_context():
        with transaction():
            run = accounts.begin(shop.settings, Operator("test"))
            accounts.bring_over(account, run)
        with transaction():
            accounts.finish(Report())
    [row] = shop.rows("SELECT id FROM users WHERE email = :email", email=account.email)
    return int(row["id"])


def bought(page: str, method: str) -> SourceAccount:
    """Return an account that bought tokens on a page and has spent 300 of them."""
    paid = model_gateway.purchase(page, TOKENS, CENTS, method=method)
    return model_gateway.account(balance_tokens=700, purchases=[paid])


def states(shop: Shop) -> set[str]:
    # BTCPay reports the page itself too.
    return {event["state"] for event in shop.events() if event["type"] != "InvoiceCreated"}


@pytest.mark.parametrize("method", METHODS)
def test_a_page_paid_after_the_switch_is_a_case(shop: Shop, method: str) -> None:
    page = old_page(shop, method)
    user_id = bring(shop, model_gateway.account())
    pay(shop, page, method)
    shop.work()
    [case] = shop.cases()
    assert (case["kind"], case["checkout_id"], case["order_id"]) == ("unknown_order", page, None)
    assert (case["paid_minor"], case["resolution"]) == (CENTS, None)
    assert states(shop) == {"parked"}
    assert shop.paid_tokens(user_id) == 0


@pytest.mark.parametrize("method", METHODS)
def test_so_is_one_whose_webhooks_were_lost(shop: Shop, method: str) -> None:
    shop.stripe.set_rule("drop")
    shop.btcpay.set_rule("drop")
    page = old_page(shop, method)
    bring(shop, model_gateway.account())
    pay(shop, page, method)
    for _ in range(2):
        assert shop.reconcile()["pages_unknown"] == 1
    [case] = shop.cases()
    assert (case["kind"], case["checkout_id"]) == ("unknown_order", page)


@pytest.mark.parametrize("method", METHODS)
def test_pages_of_other_shops_are_ignored(shop: Shop, method: str) -> None:
    bring(shop, model_gateway.account())
    shop.rows("UPDATE sweep_states SET last_run_at = now() - interval '8 days'")
    pay(shop, old_page(shop, method), method)
    shop.work()
    assert states(shop) == {"ignored"}
    assert shop.reconcile()["pages_unknown"] == 0
    assert shop.cases() == []


@pytest.mark.parametrize("method", METHODS)
def test_an_imported_purchase_is_not_credited_again(shop: Shop, method: str) -> None:
    page = old_page(shop, method)
    # The webhooks come after the import.
    user_id = bring(shop, bought(page, method))
    pay(shop, page, method)
    shop.work()
    assert states(shop) == {"handled"}
    shop.reconcile()
    assert (shop.paid_tokens(user_id), shop.lots(user_id)) == (700, [700])
    [order] = shop.orders(user_id)
    assert (order["state"], order["checkout_id"], order["pack"]) == ("paid", page, "imported")
    assert shop.cases() == [] and shop.mails() == []


def test_a_case_closes_when_its_purchase_is_imported(shop: Shop) -> None:
    page = old_page(shop, "stripe")
    bring(shop, model_gateway.account())
    pay(shop, page, "stripe")
    shop.work()
    # The old gateway heard of the payment too, and credited it before it was stopped.
    credited = bought(page, "stripe")
    user_id = bring(shop, credited)
    [case] = shop.cases()
    assert case["resolution"] == "superseded"
    assert shop.paid_tokens(user_id) == 700


@pytest.mark.parametrize("method", METHODS)
def test_a_refund_takes_back_the_unspent_part(shop: Shop, method: str) -> None:
    page = old_page(shop, method)
    shop.stripe.set_rule("drop")
    shop.btcpay.set_rule("drop")
    pay(shop, page, method)
    user_id = bring(shop, bought(page, method))
    shop.spend(user_id, 200)
    [order] = shop.orders(user_id)
    done = shop.refund(order["number"])
    assert done.active and done.last_error is None
    # 500 of 1000 tokens were left.
    assert done.amount_minor == CENTS // 2
    assert shop.paid_tokens(user_id) == 0
    [order] = shop.orders(user_id)
    assert (order["state"], order["tokens_taken"], order["tokens_owed"]) == (
        "partly_refunded", 500, 0,
    )  # fmt: skip


def test_a_refund_at_stripe_of_all_is_owed_as_far_as_it_is_spent(shop: Shop) -> None:
    page = old_page(shop, "stripe")
    user_id = bring(shop, bought(page, "stripe"))
    pay(shop, page, "stripe")
    shop.stripe.refund(shop.stripe.charge_of(page))
    shop.stripe.wait_until_quiet()
    shop.work()
    [order] = shop.orders(user_id)
    assert (order["state"], order["tokens_taken"], order["tokens_owed"]) == ("refunded", 700, 300)
    assert shop.paid_tokens(user_id) == 0
