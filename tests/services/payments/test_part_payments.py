"""Bitcoin that comes in part: recorded, mailed and shown as soon as the provider has seen it."""

import pytest

from promptly.services.payments import customer_view, orders
from promptly.transactions import transaction
from tests.support.shop import Json, Shop

NOTICES = "SELECT payload FROM outbox WHERE kind = 'payment_notice' ORDER BY id"


def handle(shop: Shop) -> None:
    """Handle all webhooks, then sync once more, which must change nothing."""
    shop.btcpay.wait_until_quiet()
    shop.work(workers=4)
    shop.reconcile()


def notices(shop: Shop) -> list[tuple[str | None, ...]]:
    names = ("event", "arrived", "due_bitcoin")
    return [tuple(row["payload"][name] for name in names) for row in shop.rows(NOTICES)]


def shown(shop: Shop, page: str) -> tuple[str, Json]:
    """Return what the customer's page explains, and the amounts that it names."""
    with shop.app.app_context(), transaction():
        order = orders.find(shop.order_of(page)["number"])
        purchase = customer_view.Purchase.of(order)
        part = purchase.part
        amounts = {} if part is None else dict(vars(part))
        return customer_view.situation(order)["about"], amounts | {"label": purchase.label}


@pytest.mark.parametrize("method", ["BTC-CHAIN", "BTC-LN"])
def test_half_of_the_price_and_then_the_rest(shop: Shop, method: str) -> None:
    user_id = shop.account()
    page = shop.order(user_id, method="btcpay")
    shop.btcpay.pay(page, share="0.5", method=method)
    handle(shop)
    half = {
        "arrived": "$1.00",
        "due": "$1.00",
        "due_bitcoin": "0.00001000 BTC",
        "label": "partly paid",
    }
    assert shown(shop, page) == ("underpaid", half)
    assert notices(shop) == [("incomplete", "$1.00", "0.00001000 BTC")]
    [mail] = shop.rows(NOTICES)
    until = shop.order_of(page)["expires_at"]
    assert mail["payload"]["until"] == f"{until:%Y-%m-%d %H:%M} UTC"
    # A further part is shown, and not mailed again.
    shop.btcpay.pay(page, share="0.25", method=method)
    handle(shop)
    assert shown(shop, page)[1]["due_bitcoin"] == "0.00000500 BTC"
    shop.btcpay.pay(page, share="0.25", method=method)
    if method == "BTC-CHAIN":
        shop.btcpay.confirm(page)
    handle(shop)
    assert shown(shop, page) == ("paid", {"label": "paid"})
    assert (shop.paid_tokens(user_id), len(notices(shop))) == (25_000_000, 1)


def test_a_payment_that_is_replaced_is_not_shown_any_more(shop: Shop) -> None:
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.pay(page, share="0.5", method="BTC-CHAIN")
    handle(shop)
    shop.btcpay.replace(page)
    shop.reconcile()
    assert shown(shop, page) == ("open", {"label": "waiting for payment"})
    assert shop.order_of(page)["seen_minor"] == 0


def test_a_rest_below_a_cent_is_still_due(shop: Shop) -> None:
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.pay(page, share="0.9985")
    handle(shop)
    about, amounts = shown(shop, page)
    assert (about, amounts["due"], amounts["due_bitcoin"]) == (
        "underpaid", "$0.01", "0.00000003 BTC",
    )  # fmt: skip


def test_time_that_runs_out(shop: Shop) -> None:
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.pay(page, share="0.5")
    handle(shop)
    shop.rows("UPDATE orders SET expires_at = now()")
    # BTCPay has not said so yet: the page offers no payment that would come too late.
    assert shown(shop, page)[0] == "overdue"
    shop.btcpay.advance(31 * 60)
    handle(shop)
    assert shown(shop, page)[0] == "paid_partial"
    assert notices(shop)[1:] == [("paid_partial", "$1.00", None)]
    # The rest comes too late: the case changes its kind, and the customer knows already.
    shop.btcpay.pay(page, share="0.5", method="BTC-CHAIN")
    handle(shop)
    assert shown(shop, page)[0] == "paid_late" and len(notices(shop)) == 2


def test_a_payment_that_comes_late(shop: Shop) -> None:
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.advance(31 * 60)
    shop.btcpay.pay(page, method="BTC-CHAIN")
    handle(shop)
    assert shown(shop, page)[0] == "paid_late"
    assert notices(shop) == [("paid_late", "$2.00", None)]


def test_the_time_comes_from_the_invoice(shop: Shop) -> None:
    """Also if the answer that told it was lost."""
    page = shop.order(shop.account(), method="btcpay")
    known = shop.order_of(page)["expires_at"]
    shop.rows("UPDATE orders SET expires_at = now() + interval '2 hours'")
    shop.reconcile()
    shop.read(page)
    assert shop.order_of(page)["expires_at"] == known
