"""Installations that share a Stripe account or a BTCPay store leave each other's pages alone."""

import pytest

from promptly.errors import InvalidRequest
from promptly.services.payments import installation
from promptly.transactions import transaction
from tests.services.payments.odd_invoices import deliver
from tests.support.races import together
from tests.support.shop import Json, Shop

METHODS = pytest.mark.parametrize("method", ["stripe", "btcpay"])


def metadata(shop: Shop, page: str) -> Json:
    provider = shop.stripe.object if page.startswith("cs_") else shop.btcpay.invoice
    return dict(provider(page)["metadata"])


def sign(shop: Shop, page: str, instance: str | None) -> None:
    """Make a page one of another installation, or one from before pages carried an id."""
    key = "promptly_instance" if page.startswith("cs_") else "promptlyInstance"
    values = {name: value for name, value in metadata(shop, page).items() if name != key}
    provider = shop.stripe if page.startswith("cs_") else shop.btcpay
    provider.alter(page, metadata=values | ({} if instance is None else {key: instance}))


def pay(shop: Shop, page: str) -> None:
    if page.startswith("cs_"):
        shop.stripe.pay(page)
    else:
        shop.btcpay.pay(page)
    deliver(shop)
    shop.reconcile()


@METHODS
def test_pages_carry_the_id(shop: Shop, method: str) -> None:
    pages = [shop.order(shop.account(), method=method) for _ in range(2)]
    [row] = shop.rows("SELECT instance_id FROM installations")
    assert all(row["instance_id"] in metadata(shop, page).values() for page in pages)


def test_the_id_is_created_once(shop: Shop) -> None:
    def read() -> str:
        with transaction():
            return installation.instance_id()

    assert len(set(together(shop.app, *[read] * 4))) == 1


@METHODS
def test_anothers_money_is_ignored(shop: Shop, method: str) -> None:
    page = shop.order(shop.account(), method=method)
    shop.rows("DELETE FROM orders")
    sign(shop, page, "another")
    pay(shop, page)
    events = shop.events()
    assert {event["state"] for event in events} == {"ignored"}
    assert "another installation created the page" in {event["reason"] for event in events}
    assert shop.cases() == [] and shop.orders() == []


@METHODS
def test_a_page_from_before_is_ours_if_its_order_is(shop: Shop, method: str) -> None:
    user_id = shop.account()
    page = shop.order(user_id, method=method)
    sign(shop, page, None)
    pay(shop, page)
    assert shop.history(user_id) == ["paid"]


@METHODS
@pytest.mark.parametrize("signed", [True, False])
def test_money_for_no_order_can_be_refunded(shop: Shop, method: str, signed: bool) -> None:
    """As after restoring a backup, or with a page from before pages carried an id."""
    page = shop.order(shop.account(), method=method)
    number = shop.order_of(page)["number"]
    shop.rows("DELETE FROM orders")
    if not signed:
        sign(shop, page, None)
    pay(shop, page)
    assert [case["kind"] for case in shop.cases()] == ["unknown_order"]
    assert shop.decide("refund")["resolution"] == "refund"
    provider = shop.stripe if method == "stripe" else shop.btcpay
    found = provider.truth_of(page)
    assert found["refunded"] + found.get("promised", 0) == 200
    order = shop.order_of(page)
    assert (order["number"], order["state"], order["user_id"]) == (number, "refunded", None)
    assert (order["received_minor"], order["returned_minor"]) == (200, 200)
    deliver(shop)
    shop.reconcile()
    assert len(shop.cases()) == 1 and shop.order_of(page)["state"] == "refunded"
    with pytest.raises(InvalidRequest, match="decided already"):
        shop.decide("refund")


@pytest.mark.parametrize(
    ("number", "kinds"), [("P-1001", []), ("P-2222-3333-4444", ["unknown_order"])]
)
def test_another_shops_numbers_are_not_ours(shop: Shop, number: str, kinds: list[str]) -> None:
    page = shop.order(shop.account(), method="btcpay")
    shop.rows("DELETE FROM orders")
    shop.btcpay.alter(page, metadata={"orderId": number})
    pay(shop, page)
    assert [case["kind"] for case in shop.cases()] == kinds
