"""Receipts of purchases: what was paid, to whom, and what went back since."""

from dataclasses import replace

import pytest

from promptly.errors import NotFound
from promptly.services.payments import orders, purchase_receipts
from promptly.services.payments.purchase_receipts import Receipt
from promptly.settings import Settings
from promptly.transactions import transaction
from tests.support.shop import Shop


def settle(shop: Shop) -> None:
    for provider in (shop.stripe, shop.btcpay):
        provider.wait_until_quiet()
    shop.work()
    shop.reconcile()


def receipt(shop: Shop, page: str, settings: Settings | None = None) -> Receipt:
    """Return the receipt of a page's order."""
    with shop.app.app_context(), transaction():
        order = orders.find(shop.order_of(page)["number"])
        return purchase_receipts.of(order, "ada@example.com", settings or shop.settings)


def lines(found: Receipt) -> list[tuple[str, str]]:
    return [(item.label, item.amount) for item in found.returned]


def test_a_card_payment_and_its_refunds(shop: Shop) -> None:
    page = shop.buy(shop.account())
    with pytest.raises(NotFound, match="has no receipt"):
        receipt(shop, page)
    settle(shop)
    found = receipt(shop, page)
    order = shop.order_of(page)
    assert (found.number, found.paid_on) == (order["number"], f"{order['credited_at']:%Y-%m-%d}")
    assert (found.price, found.tax, found.received, found.kept) == ("$2.00", None, None, "$2.00")
    assert found.test_mode and found.seller is None and found.returned == ()
    shop.refund(found.number, 50)
    settle(shop)
    failed = shop.stripe.refund(shop.stripe.charge_of(page), 25)
    shop.stripe.fail_refund(failed["id"])
    settle(shop)
    found = receipt(shop, page)
    assert (lines(found), found.kept) == ([("Refunded", "$0.50")], "$1.50")
    dispute = shop.stripe.open_dispute(shop.stripe.charge_of(page))
    settle(shop)
    assert lines(receipt(shop, page))[1][0] == "Disputed"
    shop.stripe.close_dispute(dispute["id"], "lost")
    settle(shop)
    found = receipt(shop, page)
    assert lines(found)[1][0] == "Charged back" and found.kept == "$0.00"


def test_an_overpaid_invoice_whose_surplus_goes_back(shop: Shop) -> None:
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.pay(page, share="1.5")
    settle(shop)
    assert (receipt(shop, page).received, receipt(shop, page).kept) == ("$3.00", "$3.00")
    shop.decide("refund")
    found = receipt(shop, page)
    assert (lines(found), found.kept) == ([("Refund offered", "$1.00")], "$2.00")
    [made] = shop.rows("SELECT provider_id FROM payment_reversals")
    shop.btcpay.claim(made["provider_id"])
    settle(shop)
    assert lines(receipt(shop, page)) == [("Refund on its way", "$1.00")]
    shop.btcpay.pay_out(made["provider_id"])
    settle(shop)
    assert lines(receipt(shop, page)) == [("Refunded", "$1.00")]
    assert not receipt(shop, page).test_mode


def test_an_incomplete_payment_that_the_operator_credited(shop: Shop) -> None:
    """The receipt names what came, not the price."""
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.pay(page, share="0.5")
    shop.btcpay.advance(31 * 60)
    settle(shop)
    shop.decide("credit")
    found = receipt(shop, page)
    assert (found.price, found.received, found.kept) == ("$2.00", "$1.00", "$1.00")


def test_the_seller_of_an_order_from_before_sellers_were_kept(shop: Shop) -> None:
    page = shop.buy(shop.account())
    settle(shop)
    now = replace(shop.settings, seller_name="Token Works", seller_address=("Ely",))
    assert receipt(shop, page, now).seller == {
        "name": "Token Works",
        "address": ["Ely"],
        "tax_id": "",
    }
    old = '{"name": "Old Works", "address": [], "tax_id": ""}'
    shop.rows("UPDATE orders SET seller = CAST(:seller AS jsonb)", seller=old)
    found = receipt(shop, page, now)
    assert found.seller is not None and found.seller["name"] == "Old Works"


@pytest.mark.parametrize(
    ("automatic_tax", "shown"),
    [("complete", "$0.33"), ("requires_location_inputs", None), (None, None)],
)
def test_only_tax_that_stripe_has_computed(
    shop: Shop, automatic_tax: str | None, shown: str | None
) -> None:
    page = shop.order(shop.account())
    shop.stripe.alter(
        page,
        automatic_tax={"enabled": True, "liability": None, "status": automatic_tax},
        total_details={"amount_tax": 33, "amount_discount": 0, "amount_shipping": 0},
    )
    shop.stripe.pay(page)
    settle(shop)
    assert receipt(shop, page).tax == shown
