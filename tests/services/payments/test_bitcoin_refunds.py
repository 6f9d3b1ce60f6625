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


@pytest.mark.parametrize("found_by", ["webhook", "reconciliation", "refund"])
def test_a_refund_in_btcpays_own_pages(shop: Shop, found_by: str) -> None:
    """Without a webhook the store's list of pull payments shows it: before a refund of ours too."""
    user_id = shop.account()
    page = shop.buy(user_id, method="btcpay")
    deliver(shop)
    if found_by != "webhook":
        shop.btcpay.set_rule("drop")
    offer = shop.btcpay.refund(page)
    deliver(shop)
    if found_by == "reconciliation":
        assert shop.reconcile()["refunds_followed"] == 1
    elif found_by == "refund":
        with pytest.raises(InvalidRequest, match="Nothing can be refunded"):
            shop.refund(shop.order_of(page)["number"])
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


@pytest.fixture
def unanswered(shop: Shop) -> tuple[int, str]:
    """An account, and its invoice with a refund that BTCPay did not answer."""
    user_id = shop.account()
    page = shop.buy(user_id, method="btcpay")
    deliver(shop)
    shop.btcpay.set_fault("POST */refund", status=503)
    assert shop.refund(shop.order_of(page)["number"]).state == "requested"
    shop.btcpay.clear_faults()
    return user_id, page


def test_a_refund_is_not_repeated_while_its_call_may_still_be_under_way(
    shop: Shop, unanswered: tuple[int, str]
) -> None:
    _, page = unanswered
    before = reversal(shop)["updated_at"]
    assert shop.reconcile()["refunds_finished"] == 0
    row = reversal(shop)
    assert (row["state"], row["updated_at"]) == ("requested", before), "waiting does not prolong it"
    assert shop.btcpay.truth_of(page)["promised"] == 0
    shop.age_refunds()
    assert shop.reconcile()["refunds_finished"] == 1
    assert shop.btcpay.truth_of(page)["promised"] == PRICE


def test_a_refund_that_is_no_longer_due_is_not_made(
    shop: Shop, unanswered: tuple[int, str]
) -> None:
    """Without an answer of ours, the operator refunds in BTCPay; its webhook is lost, too."""
    user_id, page = unanswered
    shop.btcpay.set_rule("drop")
    shop.btcpay.refund(page)
    shop.age_refunds()
    shop.reconcile()
    first, second = shop.rows("SELECT * FROM payment_reversals ORDER BY id")
    assert (first["state"], first["active"], second["state"]) == ("failed", False, "offered")
    assert "so much was given back" in first["last_error"]
    assert shop.btcpay.truth_of(page)["promised"] == PRICE
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["refunded"], 0)


def test_a_refund_that_btcpay_made_twice_is_on_record_twice(
    shop: Shop, unanswered: tuple[int, str]
) -> None:
    """An answer can be so late that the refund was made again: both offers are to be seen."""
    _, page = unanswered
    row_id = reversal(shop)["id"]
    shop.age_refunds()
    shop.reconcile()
    late = shop.btcpay.refund(page, called=f"Refund {shop.order_of(page)['number']} {row_id}")
    deliver(shop)
    rows = shop.rows("SELECT provider_id, state FROM payment_reversals ORDER BY id")
    assert [row["state"] for row in rows] == ["offered", "offered"]
    assert rows[1]["provider_id"] == late
    shop.btcpay.archive(late)
    shop.reconcile()
    order = shop.order_of(page)
    assert (order["returned_minor"], order["state"]) == (PRICE, "refunded")


def test_a_surplus_refunded_in_btcpays_own_pages(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "paid_over")
    offer = shop.btcpay.refund(page, "OverpaidAmount")
    deliver(shop)
    assert [case["resolution"] for case in shop.cases()] == ["superseded"]
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)
    shop.btcpay.archive(offer)
    shop.reconcile()
    [case] = shop.cases()
    assert case["resolution"] is None
    assert case["detail"].endswith("Open again: not all of the surplus was given back.")
