"""Bitcoin refunds are followed to their end: claimed, paid out, archived, made elsewhere."""

import pytest

from promptly.errors import InvalidRequest
from tests.services.payments.odd_invoices import deliver, odd_invoice
from tests.support.shop import Json, Shop

TOKENS, PRICE = 25_000_000, 200


@pytest.fixture
def refunded(shop: Shop) -> tuple[int, str, str]:
    """An account, its invoice, and the pull payment that offers all of it back."""
    user_id = shop.account()
    page = shop.buy(user_id, method="btcpay")
    deliver(shop)
    done = shop.refund(shop.order_of(page)["number"])
    return user_id, page, str(done.provider_id)


def reversal(shop: Shop) -> Json:
    [row] = shop.rows("SELECT * FROM payment_reversals")
    return row


def test_a_refund_that_is_claimed_and_paid_out(shop: Shop, refunded: tuple[int, str, str]) -> None:
    user_id, _, offer = refunded
    states = [reversal(shop)["state"]]
    shop.btcpay.claim(offer)
    assert shop.reconcile()["refunds_followed"] == 1
    states.append(reversal(shop)["state"])
    shop.btcpay.pay_out(offer)
    shop.reconcile()
    states.append(reversal(shop)["state"])
    assert states == ["offered", "claimed", "succeeded"]
    assert (reversal(shop)["amount_minor"], reversal(shop)["active"]) == (PRICE, True)
    assert shop.reconcile()["refunds_followed"] == 0
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["refunded"], 0)
    assert shop.mails() == ["receipt", "refund_notice"]


@pytest.mark.parametrize("claimed", [True, False])
def test_an_archived_refund_gives_the_tokens_back_and_tells(
    shop: Shop, refunded: tuple[int, str, str], claimed: bool
) -> None:
    user_id, page, offer = refunded
    if claimed:
        shop.btcpay.claim(offer)
        shop.reconcile()
    shop.btcpay.archive(offer)
    shop.reconcile()
    assert (reversal(shop)["state"], reversal(shop)["active"]) == ("archived", False)
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)
    [_, first, second] = shop.rows("SELECT kind, payload FROM outbox ORDER BY id")
    assert (first["payload"]["event"], second["payload"]["event"]) == ("refunded", "refund_failed")
    # It can be offered anew.
    shop.refund(shop.order_of(page)["number"])
    assert shop.btcpay.truth_of(page)["promised"] == PRICE


def test_an_archived_refund_of_a_case_opens_it_again(shop: Shop) -> None:
    _, page = odd_invoice(shop, "paid_partial")
    shop.decide("refund")
    shop.btcpay.archive(reversal(shop)["provider_id"])
    shop.reconcile()
    [case] = shop.cases()
    assert case["resolution"] is None and "the refund is archived" in case["detail"]
    order = shop.order_of(page)
    assert (order["state"], order["returned_minor"]) == ("attention", 0)


@pytest.mark.parametrize("told_by", ["webhook", "nobody"])
def test_a_refund_in_btcpays_own_pages(shop: Shop, told_by: str) -> None:
    user_id = shop.account()
    page = shop.buy(user_id, method="btcpay")
    deliver(shop)
    if told_by == "nobody":
        shop.btcpay.set_rule("drop")
    offer = shop.btcpay.refund(page)
    deliver(shop)
    if told_by == "nobody":
        # BTCPay has no list of an invoice's refunds.
        assert shop.paid_tokens(user_id) == TOKENS
        return
    row = reversal(shop)
    assert (row["provider_id"], row["amount_minor"], row["actor"]) == (offer, PRICE, "btcpay")
    assert row["link"].startswith(shop.btcpay.url)
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["refunded"], 0)
    with pytest.raises(InvalidRequest):
        shop.refund(shop.order_of(page)["number"], 1)
    shop.btcpay.archive(offer)
    shop.reconcile()
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)


def test_the_webhook_of_our_own_refund_changes_nothing(
    shop: Shop, refunded: tuple[int, str, str]
) -> None:
    deliver(shop)
    assert "InvoiceRefund" in [event["type"] for event in shop.events()]
    assert (reversal(shop)["state"], reversal(shop)["actor"]) == ("offered", "cli:test")
    assert shop.mails() == ["receipt", "refund_notice"]
