"""Bitcoin refunds can be claimed by the method that the customer paid by."""

from typing import Any

import pytest

from promptly.services.payments.providers.btcpay_refund import payout_methods
from sandbox.process import SandboxError
from tests.services.payments.odd_invoices import deliver, expire
from tests.support.shop import Json, Shop

PRICE = 200
CHAIN, LIGHTNING, LNURL = "BTC-CHAIN", "BTC-LN", "BTC-LNURL"


def paid(name: str, *values: str, status: str = "Settled", rate: str = "100000") -> Json:
    payments = [{"value": value, "status": status} for value in values]
    return {"paymentMethodId": name, "rate": rate, "payments": payments}


@pytest.mark.parametrize(
    ("methods", "payable"),
    [
        ([], []),
        ([paid(CHAIN), paid(LIGHTNING)], []),
        ([paid(CHAIN), paid(LNURL, "0.1")], [LIGHTNING]),
        ([paid(LIGHTNING, "0.1"), paid(LNURL, "0.1"), paid(CHAIN, "0.15")], [LIGHTNING, CHAIN]),
        ([paid(CHAIN, "0.1"), paid(LIGHTNING, "0.1", "0.1")], [LIGHTNING, CHAIN]),
        ([paid(LIGHTNING, "0.1"), paid(CHAIN, "0.1")], [CHAIN, LIGHTNING]),
        ([paid(CHAIN, "0.1", status="Processing"), paid(LIGHTNING)], [CHAIN]),
        ([paid(CHAIN, "0.1", status="Invalid"), paid(LIGHTNING, "0.1")], [LIGHTNING]),
        ([paid("LTC-CHAIN", "2", rate="100"), paid(CHAIN, "0.1")], [CHAIN, "LTC-CHAIN"]),
        ([paid(CHAIN, "many"), {"payments": None}], []),
    ],
)
def test_the_methods_that_have_payments(methods: list[Any], payable: list[str]) -> None:
    assert payout_methods(methods) == payable


@pytest.mark.parametrize(
    ("settings", "pays_by", "payable"),
    [
        ({}, LIGHTNING, LIGHTNING),
        ({}, CHAIN, CHAIN),
        ({}, LNURL, LIGHTNING),
        ({"methods": [LIGHTNING, LNURL]}, LNURL, LIGHTNING),
        ({"default_method": LNURL}, CHAIN, CHAIN),
        ({"version": "2.1.2"}, LNURL, LIGHTNING),
        ({"version": "2.3.9", "methods": [LIGHTNING, LNURL]}, LIGHTNING, LIGHTNING),
    ],
)
def test_a_refund_is_claimed_as_it_was_paid(
    shop: Shop, settings: Json, pays_by: str, payable: str
) -> None:
    shop.btcpay.set_settings(**settings)
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.pay(page, method=pays_by)
    if pays_by == CHAIN:
        shop.btcpay.confirm(page)
    deliver(shop)
    done = shop.refund(shop.order_of(page)["number"])
    assert (done.state, done.last_error) == ("offered", None)
    other = "bcrt1qada" if payable == LIGHTNING else "lnbcrt1ada"
    with pytest.raises(SandboxError, match=f"{payable} only"):
        shop.btcpay.claim(str(done.provider_id), other)
    shop.btcpay.claim(str(done.provider_id))
    shop.btcpay.pay_out(str(done.provider_id))
    assert shop.btcpay.truth_of(page)["refunded"] == PRICE


def both_ways(shop: Shop) -> str:
    """Pay a third of an invoice by Lightning and half of it on chain; return its id."""
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.pay(page, share="0.3")
    shop.btcpay.pay(page, share="0.5", method=CHAIN)
    shop.btcpay.confirm(page)
    expire(shop, page)
    deliver(shop)
    return page


def test_of_several_methods_a_newer_server_offers_all(shop: Shop) -> None:
    both_ways(shop)
    shop.decide("refund")
    [row] = shop.rows("SELECT provider_id FROM payment_reversals")
    shop.btcpay.claim(row["provider_id"], "lnbcrt1ada")


def test_of_several_methods_an_older_server_offers_that_of_most_money(shop: Shop) -> None:
    shop.btcpay.set_settings(version="2.4.0")
    both_ways(shop)
    shop.decide("refund")
    [row] = shop.rows("SELECT provider_id FROM payment_reversals")
    with pytest.raises(SandboxError, match=f"{CHAIN} only"):
        shop.btcpay.claim(row["provider_id"], "lnbcrt1ada")
    shop.btcpay.claim(row["provider_id"], "bcrt1qada")


@pytest.mark.parametrize("route", ["GET /api/v1/server/info", "GET */payment-methods"])
def test_without_an_answer_the_refund_waits(shop: Shop, route: str) -> None:
    page = shop.buy(shop.account(), method="btcpay")
    deliver(shop)
    number = shop.read(page)["number"]
    shop.btcpay.set_fault(route, status=503)
    done = shop.refund(number)
    assert (done.state, done.provider_id) == ("requested", None)
    shop.btcpay.clear_faults()
    shop.age_refunds()
    shop.reconcile()
    [row] = shop.rows("SELECT state, provider_id FROM payment_reversals")
    assert row["state"] == "offered"
    shop.btcpay.claim(row["provider_id"], "lnbcrt1ada")
