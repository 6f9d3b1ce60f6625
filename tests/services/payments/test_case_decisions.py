"""Operators' decisions on cases: made once, recorded with a name, and carried out."""

from functools import partial

import pytest

from promptly.errors import InvalidRequest, NotFound, PromptlyError
from promptly.services.payments import case_decisions, cases
from promptly.transactions import transaction
from tests.services.payments.odd_invoices import deliver, odd_invoice
from tests.support.races import together
from tests.support.shop import Shop

TOKENS, PRICE = 25_000_000, 200


@pytest.mark.parametrize("kind", ["paid_partial", "paid_late", "unconfirmed"])
def test_credited_all_the_same(shop: Shop, kind: str) -> None:
    user_id, page = odd_invoice(shop, kind)
    case = shop.decide("credit")
    assert (case["resolution"], case["resolved_by"], case["note"]) == (
        "credit",
        "cli:ada",
        "because",
    )
    order = shop.order_of(page)
    assert (order["state"], order["approved"], shop.paid_tokens(user_id)) == ("paid", True, TOKENS)
    [entry] = shop.rows("SELECT actor FROM ledger_entries WHERE kind = 'purchase'")
    assert entry["actor"] == "cli:ada"
    noticed = ["payment_notice"] if kind in {"paid_partial", "paid_late"} else []
    assert shop.mails() == [*noticed, "receipt"]
    # BTCPay's status stays as it is, and no longer changes the order.
    shop.reconcile()
    shop.rows("UPDATE orders SET provider_status = NULL")
    shop.reconcile()
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)
    assert len(shop.cases()) == 1


@pytest.mark.parametrize(("kind", "paid"), [("paid_partial", 100), ("paid_late", PRICE)])
def test_given_back(shop: Shop, kind: str, paid: int) -> None:
    user_id, page = odd_invoice(shop, kind)
    if kind == "paid_late":
        with pytest.raises(InvalidRequest, match="no confirmed payment"):
            shop.decide("refund")
        shop.btcpay.confirm(page)
    assert shop.cases()[0]["paid_minor"] == paid
    assert shop.decide("refund")["resolution"] == "refund"
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["refunded"], 0)
    assert shop.btcpay.truth_of(page)["promised"] == paid
    [row] = shop.rows("SELECT * FROM payment_reversals")
    assert (row["state"], row["amount_minor"], row["actor"]) == ("offered", paid, "cli:ada")
    assert row["link"].startswith(shop.btcpay.url)
    shop.reconcile()
    assert shop.history(user_id) == ["refunded"]


@pytest.mark.parametrize(
    ("kind", "state"),
    [("paid_partial", "expired"), ("paid_late", "expired"), ("unconfirmed", "failed")],
)
def test_dismissed(shop: Shop, kind: str, state: str) -> None:
    user_id, page = odd_invoice(shop, kind)
    shop.decide("dismiss")
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == ([state], 0)
    shop.reconcile()
    assert (shop.history(user_id), len(shop.cases())) == ([state], 1)
    # The merchant changes their mind, in BTCPay.
    shop.btcpay.mark(page, "Settled")
    deliver(shop)
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)


def test_a_surplus_is_given_back_and_the_pack_kept(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "paid_over")
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)
    shop.decide("refund")
    assert shop.btcpay.truth_of(page)["promised"] == 100
    shop.reconcile()
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)
    assert shop.mails() == ["receipt", "refund_notice"]


def test_what_was_credited_and_turns_invalid_is_asked_again(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "paid_late")
    shop.decide("credit")
    shop.spend(user_id, 1000)
    shop.btcpay.mark(page, "Invalid")
    deliver(shop)
    assert shop.paid_tokens(user_id) == TOKENS - 1000
    assert [case["kind"] for case in shop.cases()] == ["paid_late", "invalid"]
    shop.decide("take_back")
    order = shop.order_of(page)
    assert (order["state"], order["tokens_taken"], order["tokens_owed"]) == (
        "invalid",
        TOKENS - 1000,
        1000,
    )
    shop.rows("UPDATE orders SET provider_status = NULL")
    shop.reconcile()
    assert shop.paid_tokens(user_id) == 0


def test_another_amount_at_stripe(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.order(user_id)
    shop.stripe.alter(page, amount_total=150)
    shop.stripe.pay(page)
    deliver(shop)
    assert (shop.cases()[0]["kind"], shop.cases()[0]["paid_minor"]) == ("amount", 150)
    shop.decide("credit")
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)
    # From now on the order behaves like any other.
    shop.stripe.refund(shop.stripe.charge_of(page), 100)
    deliver(shop)
    # Half of the tokens would cost half of what was paid, not of the price.
    taken = TOKENS * 100 // 150
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (
        ["partly_refunded"],
        TOKENS - taken,
    )


def test_money_for_a_deleted_account_is_given_back(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.order(user_id)
    shop.rows("DELETE FROM balances WHERE user_id = :u", u=user_id)
    shop.rows("DELETE FROM users WHERE id = :u", u=user_id)
    shop.stripe.pay(page)
    deliver(shop)
    assert shop.cases()[0]["kind"] == "account_deleted"
    with pytest.raises(InvalidRequest, match="refund, dismiss"):
        shop.decide("credit")
    shop.decide("refund")
    assert shop.stripe.truth_of(page)["refunded"] == PRICE
    assert shop.order_of(page)["state"] == "refunded"
    deliver(shop)
    shop.reconcile()
    assert shop.order_of(page)["state"] == "refunded"


def test_a_case_is_decided_once(shop: Shop) -> None:
    user_id, _ = odd_invoice(shop, "paid_late")
    case_id = int(shop.cases()[0]["id"])

    def decide(choice: str) -> str:
        try:
            with transaction():
                case_decisions.resolve(case_id, choice, actor=f"cli:{choice}")
        except PromptlyError as problem:
            return type(problem).__name__
        return choice

    choices = ["credit", "dismiss", "refund"] * 3
    results = together(shop.app, *[partial(decide, choice) for choice in choices])
    assert results.count("InvalidRequest") == len(choices) - 1
    [won] = [result for result in results if result != "InvalidRequest"]
    [case] = shop.cases()
    assert (case["resolution"], case["resolved_by"]) == (won, f"cli:{won}")
    assert shop.paid_tokens(user_id) == (TOKENS if won == "credit" else 0)
    with pytest.raises(InvalidRequest, match="decided already"):
        shop.decide("dismiss", case_id)


def test_unavailable_choices_and_unknown_cases(shop: Shop) -> None:
    odd_invoice(shop, "paid_over")
    with pytest.raises(InvalidRequest) as problem:
        shop.decide("credit")
    assert problem.value.param == "choice"
    with pytest.raises(NotFound):
        shop.decide("dismiss", 10**9)
    assert shop.cases()[0]["resolution"] is None
    with shop.app.app_context(), transaction():
        assert cases.count_open() == 1


def test_a_credit_that_has_become_impossible_leaves_the_case_open(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "paid_late")
    shop.btcpay.confirm(page)
    shop.rows("DELETE FROM balances WHERE user_id = :u", u=user_id)
    shop.rows("DELETE FROM users WHERE id = :u", u=user_id)
    with pytest.raises(InvalidRequest, match="no account"):
        shop.decide("credit")
    assert shop.cases()[0]["resolution"] is None
    shop.decide("refund")


@pytest.mark.parametrize("way", ["in BTCPay", "dismissed"])
def test_money_that_comes_back_from_a_refund_needs_a_decision_again(shop: Shop, way: str) -> None:
    """The refund of a case reopens it; so does one that was made without deciding it."""
    _, page = odd_invoice(shop, "paid_partial")
    if way == "dismissed":
        shop.decide("dismiss")
        offer = str(shop.refund(shop.order_of(page)["number"]).provider_id)
    else:
        offer = shop.btcpay.refund(page, "Fiat")
        deliver(shop)
    assert shop.order_of(page)["state"] == "refunded"
    assert shop.cases()[0]["resolution"] == ("dismiss" if way == "dismissed" else "superseded")
    shop.btcpay.archive(offer)
    shop.reconcile()
    [case] = shop.cases()
    assert (shop.order_of(page)["state"], case["resolution"]) == ("attention", None)
    assert case["detail"].endswith("Open again: not all that came was given back.")


def test_a_payment_that_is_confirmed_after_its_case_was_dismissed(shop: Shop) -> None:
    _, page = odd_invoice(shop, "unconfirmed")
    shop.decide("dismiss")
    shop.btcpay.confirm(page)
    deliver(shop)
    [case] = shop.cases()
    assert (shop.order_of(page)["state"], case["resolution"]) == ("attention", None)
    assert case["detail"].endswith("Open again: the payment was confirmed since.")
    shop.decide("dismiss")
    shop.reconcile()
    assert shop.cases()[0]["resolution"] == "dismiss"


def test_a_payment_after_the_invoice_has_settled_is_a_surplus(shop: Shop) -> None:
    """BTCPay reports the status Settled as before; only the amounts show it."""
    user_id = shop.account()
    page = shop.buy(user_id, method="btcpay")
    deliver(shop)
    shop.btcpay.set_rule("drop")
    shop.btcpay.pay(page, share="0.5", method="BTC-CHAIN")
    shop.reconcile()
    assert shop.cases() == [], "not confirmed yet"
    shop.btcpay.confirm(page)
    shop.reconcile()
    assert shop.btcpay.invoice(page)["additionalStatus"] == "None"
    [case] = shop.cases()
    assert (case["kind"], case["detail"], case["paid_minor"]) == (
        "paid_over",
        "$3.00 came for $2.00.",
        300,
    )
    shop.decide("dismiss")
    shop.btcpay.pay(page, share="0.5", method="BTC-CHAIN")
    shop.btcpay.confirm(page)
    shop.reconcile()
    [case] = shop.cases()
    assert (case["resolution"], case["paid_minor"]) == (None, 400)
    shop.decide("refund")
    assert shop.btcpay.truth_of(page)["promised"] == PRICE
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)


def test_too_much_that_came_too_late_is_a_surplus_once_it_is_credited(shop: Shop) -> None:
    _, page = odd_invoice(shop, "paid_late")
    shop.btcpay.pay(page, share="0.5", method="BTC-CHAIN")
    shop.btcpay.confirm(page)
    deliver(shop)
    shop.decide("credit")
    assert [(case["kind"], case["resolution"]) for case in shop.cases()] == [
        ("paid_late", "credit"),
        ("paid_over", None),
    ]
    assert shop.decide("refund")["resolution"] == "refund"
    assert shop.btcpay.truth_of(page)["promised"] == 100


@pytest.mark.parametrize(("confirmed", "waiting"), [(True, ["paid_late"]), (False, [])])
def test_an_invoice_that_is_marked_as_invalid_although_money_came(
    shop: Shop, confirmed: bool, waiting: list[str]
) -> None:
    _, page = odd_invoice(shop, "paid_late")
    if confirmed:
        shop.btcpay.confirm(page)
    shop.btcpay.mark(page, "Invalid")
    deliver(shop)
    assert [case["kind"] for case in shop.cases() if case["resolution"] is None] == waiting
    assert shop.order_of(page)["state"] == ("attention" if confirmed else "failed")
    if confirmed:
        assert shop.decide("refund")["resolution"] == "refund"
        assert shop.btcpay.truth_of(page)["promised"] == PRICE
