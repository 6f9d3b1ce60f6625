"""Never more goes back than came: the ways in which it could, tried through the providers."""

import pytest

from promptly.errors import InvalidRequest, PaymentUnavailable
from promptly.services.payments import refunds
from promptly.transactions import transaction
from tests.services.payments.odd_invoices import deliver, expire, odd_invoice
from tests.support.shop import Json, Shop

TOKENS, PRICE = 25_000_000, 200


def came_and_went(shop: Shop, page: str) -> tuple[int, int]:
    """Return what came for a page and what was given back, equal in our books and BTCPay's."""
    order, found = shop.read(page), shop.btcpay.truth_of(page)
    figures = (found["settled"], found["refunded"] + found["promised"])
    assert (order["received_minor"], order["returned_minor"]) == figures
    return figures


def test_a_part_that_was_refunded_before_the_rest_came_late(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.order(user_id, method="btcpay")
    shop.btcpay.pay(page, share="0.2")
    expire(shop, page)
    deliver(shop)
    shop.decide("refund")
    assert shop.order_of(page)["state"] == "refunded"
    shop.btcpay.pay(page, share="0.8", method="BTC-CHAIN")
    shop.btcpay.confirm(page)
    deliver(shop)
    assert [(case["kind"], case["resolution"]) for case in shop.cases()] == [
        ("paid_partial", "refund"),
        ("paid_late", None),
    ]
    assert shop.order_of(page)["state"] == "attention"
    shop.decide("refund")
    assert came_and_went(shop, page) == (PRICE, PRICE)
    assert shop.order_of(page)["state"] == "refunded"


def test_another_part_after_a_refund_opens_the_case_again(shop: Shop) -> None:
    page = shop.order(shop.account(), method="btcpay")
    shop.btcpay.pay(page, share="0.2")
    expire(shop, page)
    deliver(shop)
    shop.decide("refund")
    shop.btcpay.pay(page, share="0.3", method="BTC-CHAIN")
    shop.btcpay.confirm(page)
    deliver(shop)
    [case] = shop.cases()
    assert (case["resolution"], case["paid_minor"]) == (None, 100)
    assert case["detail"].endswith("Open again: more money came since.")
    shop.decide("refund")
    assert came_and_went(shop, page) == (100, 100)


def test_a_part_that_was_credited_is_refunded_as_a_part(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "paid_partial")
    shop.decide("credit")
    shop.spend(user_id, TOKENS // 2)
    number = shop.order_of(page)["number"]
    assert shop.refund(number).amount_minor == 50, "half of the tokens cost half of what came"
    with pytest.raises(InvalidRequest, match="Between 1 and 50"):
        shop.refund(number, 51)
    shop.refund(number, 50)
    assert came_and_went(shop, page) == (100, 100)
    order = shop.order_of(page)
    assert (order["state"], order["tokens_taken"], order["tokens_owed"]) == (
        "refunded",
        TOKENS // 2,
        TOKENS // 2,
    )
    assert order["reversed_minor"] == PRICE, "all of the purchase is gone"


def test_the_rest_of_a_credited_part_gives_its_tokens_back(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "paid_partial")
    shop.decide("credit")
    shop.refund(shop.order_of(page)["number"])
    assert shop.paid_tokens(user_id) == 0
    shop.btcpay.pay(page, share="0.5", method="BTC-CHAIN")
    shop.btcpay.confirm(page)
    deliver(shop)
    assert came_and_went(shop, page) == (PRICE, 100)
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["partly_refunded"], TOKENS // 2)


def test_nothing_is_refunded_of_a_payment_that_was_never_confirmed(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "unconfirmed")
    with pytest.raises(InvalidRequest, match="no confirmed payment"):
        shop.decide("refund")
    shop.decide("credit")
    number = shop.order_of(page)["number"]
    for amount in (None, 1):
        with pytest.raises(InvalidRequest):
            shop.refund(number, amount)
    assert came_and_went(shop, page) == (0, 0) and shop.paid_tokens(user_id) == TOKENS


@pytest.mark.parametrize("surplus_first", [True, False])
def test_all_of_an_overpayment_can_go_back(shop: Shop, surplus_first: bool) -> None:
    user_id, page = odd_invoice(shop, "paid_over")
    number = shop.order_of(page)["number"]
    if surplus_first:
        shop.decide("refund")
        assert (came_and_went(shop, page), shop.paid_tokens(user_id)) == ((300, 100), TOKENS)
    shop.refund(number)
    assert (came_and_went(shop, page), shop.paid_tokens(user_id)) == ((300, 300), 0)
    assert shop.order_of(page)["state"] == "refunded"
    assert [case["resolution"] for case in shop.cases()] == ["refund"]
    with pytest.raises(InvalidRequest):
        shop.refund(number, 1)


def test_an_order_from_before_is_read_first(shop: Shop) -> None:
    _, page = odd_invoice(shop, "paid_partial")
    shop.decide("credit")
    shop.rows("UPDATE orders SET received_minor = NULL, returned_minor = NULL")
    number = shop.order_of(page)["number"]
    with (
        shop.app.app_context(),
        transaction(),
        pytest.raises(InvalidRequest, match="not been read"),
    ):
        refunds.request_refund(number, amount_minor=PRICE, actor="test")
    shop.btcpay.set_fault("GET /api/v1/stores/*", status=503)
    with pytest.raises(PaymentUnavailable, match="not known"):
        shop.refund(number, PRICE)
    shop.btcpay.clear_faults()
    with pytest.raises(InvalidRequest, match="Between 1 and 100"):
        shop.refund(number, PRICE)
    shop.refund(number)
    assert came_and_went(shop, page) == (100, 100)


def test_an_account_with_another_price_gets_all_of_it_back(shop: Shop) -> None:
    """As with a tax that the account adds by default: the total is not the order's."""
    user_id = shop.account()
    page = shop.order(user_id)
    shop.stripe.alter(page, amount_total=238)
    shop.stripe.pay(page)
    deliver(shop)
    shop.decide("credit")
    assert shop.refund(shop.order_of(page)["number"]).amount_minor == 238
    assert shop.stripe.truth_of(page)["held"] == 0
    order = shop.order_of(page)
    assert (order["received_minor"], order["returned_minor"], order["state"]) == (
        238,
        238,
        "refunded",
    )
    assert shop.paid_tokens(user_id) == 0


@pytest.mark.parametrize("credited", [True, False])
def test_another_currency_is_refunded_in_full(shop: Shop, credited: bool) -> None:
    user_id = shop.account()
    page = shop.order(user_id)
    shop.stripe.alter(page, amount_total=180, currency="eur")
    shop.stripe.pay(page)
    deliver(shop)
    if credited:
        shop.decide("credit")
        shop.refund(shop.order_of(page)["number"])
    else:
        shop.decide("refund")
    order = shop.order_of(page)
    assert (order["state"], order["received_currency"], order["returned_minor"]) == (
        "refunded",
        "EUR",
        180,
    )
    assert shop.paid_tokens(user_id) == 0
    assert shop.stripe.truth_of(page)["held"] == 0
    payload = shop.rows("SELECT payload FROM outbox WHERE kind = 'refund_notice'")[0]["payload"]
    assert payload["refunded"] == "€1.80"


def test_a_session_that_a_discount_made_free_is_a_case(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.order(user_id)
    free: Json = {"status": "complete", "payment_status": "no_payment_required"}
    shop.stripe.alter(page, amount_total=0, **free)
    shop.reconcile()
    assert [(case["kind"], case["paid_minor"]) for case in shop.cases()] == [("amount", 0)]
    with pytest.raises(InvalidRequest, match="no confirmed payment"):
        shop.decide("refund")
    shop.decide("credit")
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)
    assert shop.order_of(page)["received_minor"] == 0


@pytest.mark.parametrize("way", ["case", "order"])
def test_a_refused_refund_opens_its_case_again(shop: Shop, way: str) -> None:
    _, page = odd_invoice(shop, "paid_partial")
    number = shop.order_of(page)["number"]

    def give_back() -> None:
        if way == "case":
            shop.decide("refund")
        else:
            shop.refund(number)

    shop.btcpay.set_fault("POST /api/v1/stores/*/refund", status=400)
    give_back()
    [case] = shop.cases()
    assert case["resolution"] is None and "Open again: BTCPay refuses (400)" in case["detail"]
    assert shop.order_of(page)["state"] == "attention"
    shop.btcpay.clear_faults()
    give_back()
    assert [case["resolution"] for case in shop.cases()] == ["refund"]
    assert came_and_went(shop, page) == (100, 100)


def test_a_refund_of_a_case_that_fails_later_opens_it_again(shop: Shop) -> None:
    page = shop.order(shop.account())
    shop.stripe.alter(page, amount_total=150)
    shop.stripe.pay(page)
    deliver(shop)
    shop.decide("refund")
    assert shop.order_of(page)["state"] == "refunded"
    [row] = shop.rows("SELECT provider_id FROM payment_reversals")
    shop.stripe.fail_refund(row["provider_id"])
    deliver(shop)
    assert [case["resolution"] for case in shop.cases()] == [None]
    assert shop.order_of(page)["state"] == "attention"
    shop.decide("dismiss")
    shop.reconcile()
    assert [case["resolution"] for case in shop.cases()] == ["dismiss"]


@pytest.mark.parametrize("dismissed", [True, False])
def test_an_uncredited_order_that_was_refunded_by_hand(shop: Shop, dismissed: bool) -> None:
    user_id, page = odd_invoice(shop, "paid_partial")
    number = shop.order_of(page)["number"]
    if dismissed:
        shop.decide("dismiss")
    assert shop.refund(number, 40, by_hand=True).state == "by_hand"
    assert shop.cases()[0]["resolution"] == ("dismiss" if dismissed else None)
    shop.refund(number, by_hand=True)
    assert shop.cases()[0]["resolution"] == ("dismiss" if dismissed else "refund")
    order = shop.order_of(page)
    assert (order["state"], order["received_minor"], order["returned_minor"]) == (
        "refunded",
        100,
        100,
    )
    with pytest.raises(InvalidRequest, match="nothing was received"):
        shop.refund(number, 1, by_hand=True)
    assert shop.paid_tokens(user_id) == 0


def test_a_fraud_warning_becomes_a_case(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.buy(user_id)
    shop.reconcile()
    shop.stripe.warn_of_fraud(shop.stripe.charge_of(page))
    report = shop.reconcile()
    assert report["events_missed"] == 0, "nobody has to subscribe to it"
    [case] = shop.cases()
    assert case["kind"] == "fraud_warning" and "unauthorized use of card" in case["detail"]
    shop.decide("refund")
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["refunded"], 0)
    assert shop.stripe.truth_of(page)["held"] == 0
    shop.stripe.warn_of_fraud(shop.stripe.charge_of(page))
    shop.reconcile()
    assert len(shop.cases()) == 1
