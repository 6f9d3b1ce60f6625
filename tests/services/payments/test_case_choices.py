"""The choices of a case: those that apply now, with their amounts, carried out as shown."""

from functools import partial

import pytest

from promptly.errors import InvalidRequest
from promptly.services.payments import case_choices, case_decisions, cases, refunds
from promptly.transactions import transaction
from tests.services.payments.odd_invoices import deliver, odd_invoice
from tests.support.races import together
from tests.support.shop import Json, Shop

TOKENS, PRICE = 25_000_000, 200
Row = tuple[str, str, int, int]

NOTHING_MOVES = "No money and no tokens move."


def offer(shop: Shop) -> case_choices.Offer:
    """Return the choices of the newest case."""
    case_id = int(shop.cases()[-1]["id"])
    with shop.app.app_context(), transaction():
        return case_choices.of_case(case_id)


def offered(shop: Shop) -> list[Row]:
    """Return name, label, money and tokens of each choice of the newest case."""
    return [
        (choice.name, choice.label, choice.refund_minor, choice.tokens)
        for choice in offer(shop).choices
    ]


def effects(shop: Shop, name: str) -> str:
    return " ".join(offer(shop).find(name).effects)


CREDIT: Row = ("credit", "Credit 25,000,000 tokens", 0, TOKENS)
PARTIAL: list[Row] = [
    CREDIT,
    ("refund", "Refund $1.00", 100, 0),
    ("dismiss", "Dismiss and keep $1.00", 0, 0),
]
OVER: list[Row] = [
    ("credit_surplus", "Credit the surplus, 12,500,000 tokens", 0, TOKENS // 2),
    ("refund", "Refund the surplus, $1.00", 100, 0),
    ("refund_all", "Refund all, $3.00", 300, -TOKENS),
    ("dismiss", "Dismiss and keep $1.00", 0, 0),
]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("paid_partial", PARTIAL),
        # Nothing is confirmed yet.
        ("paid_late", [CREDIT, ("dismiss", "Dismiss", 0, 0)]),
        ("unconfirmed", [CREDIT, ("dismiss", "Dismiss", 0, 0)]),
        ("paid_over", OVER),
    ],
)
def test_of_bitcoin(shop: Shop, kind: str, expected: list[Row]) -> None:
    odd_invoice(shop, kind)
    assert offered(shop) == expected


def test_effects_name_money_and_tokens(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "paid_partial")
    assert effects(shop, "credit") == (
        "The account gets the whole pack, 25,000,000 tokens. No money moves."
        " $1.00 of $2.00 has been received."
    )
    assert effects(shop, "refund") == (
        "BTCPay opens a page where the customer claims $1.00; promptly emails them its link. You"
        " approve the payout in BTCPay. No tokens are taken: none were credited."
    )
    assert effects(shop, "dismiss") == f"{NOTHING_MOVES} The customer gets no tokens for $1.00."
    shop.rows("DELETE FROM balances WHERE user_id = :u", u=user_id)
    shop.rows("DELETE FROM users WHERE id = :u", u=user_id)
    assert [name for name, *_ in offered(shop)] == ["refund", "dismiss"]
    assert "you send them its link" in effects(shop, "refund")
    shop.decide("refund")
    assert shop.btcpay.truth_of(page)["promised"] == 100


def test_effects_of_what_is_spent_already(shop: Shop) -> None:
    user_id, _ = odd_invoice(shop, "paid_over")
    shop.spend(user_id, 5_000_000)
    surplus = effects(shop, "refund")
    assert "promptly emails them its link" in surplus
    assert surplus.endswith("No tokens are taken: the purchase stays paid.")
    assert (
        "Of 25,000,000 tokens, the 20,000,000 that are unspent now are taken back; the others are"
        " spent or held by requests, and recorded as owed."
    ) in effects(shop, "refund_all")


@pytest.mark.parametrize("total", [150, 300])
def test_of_another_amount_by_card(shop: Shop, total: int) -> None:
    user_id, page = another_amount(shop, total)
    shown = {150: "$1.50", 300: "$3.00"}[total]
    assert offered(shop) == [
        CREDIT,
        ("refund", f"Refund {shown}", total, 0),
        ("dismiss", f"Dismiss and keep {shown}", 0, 0),
    ]
    assert f"Stripe returns {shown} to the customer." in effects(shop, "refund")
    shop.decide("credit")
    if total < PRICE:
        assert len(shop.cases()) == 1
        return
    # The surplus is a case of its own, with the choices of a surplus.
    assert [case["kind"] for case in shop.cases()] == ["amount", "paid_over"]
    assert shop.cases()[-1]["detail"] == "$3.00 came for $2.00."
    assert offered(shop) == OVER
    shop.decide("refund")
    found = shop.stripe.truth_of(page)
    assert (found["refunded"], shop.paid_tokens(user_id)) == (100, TOKENS)


def test_of_a_fraud_warning(shop: Shop) -> None:
    user_id = shop.account()
    page = shop.buy(user_id)
    shop.reconcile()
    shop.stripe.warn_of_fraud(shop.stripe.charge_of(page))
    shop.reconcile()
    assert offered(shop) == [
        ("refund", "Refund $2.00", PRICE, -TOKENS),
        ("dismiss", "Dismiss", 0, 0),
    ]
    assert "25,000,000 unspent tokens are taken back." in effects(shop, "refund")


def test_of_an_invalid_payment(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "paid_late")
    shop.decide("credit")
    shop.spend(user_id, 1000)
    shop.btcpay.mark(page, "Invalid")
    deliver(shop)
    assert offered(shop) == [
        ("take_back", "Take back 25,000,000 tokens", 0, -TOKENS),
        ("dismiss", "Dismiss", 0, 0),
    ]
    assert "24,999,000 that are unspent" in effects(shop, "take_back")


def test_of_a_page_without_an_order(shop: Shop) -> None:
    page = shop.order(shop.account())
    shop.stripe.pay(page)
    shop.rows("DELETE FROM webhook_events")
    shop.rows("DELETE FROM orders")
    shop.reconcile()
    assert shop.cases()[0]["kind"] == "unknown_order"
    assert (offered(shop), offer(shop).is_unread) == ([("dismiss", "Dismiss", 0, 0)], True)
    with shop.app.app_context():
        case_decisions.read(int(shop.cases()[0]["id"]), shop.settings)
    assert offered(shop)[0] == ("refund", "Refund $2.00", PRICE, 0)
    assert not offer(shop).is_unread
    shop.decide("refund")
    assert shop.stripe.truth_of(page)["refunded"] == PRICE


def reopen_newest(shop: Shop) -> None:
    shop.rows(
        "UPDATE payment_cases SET resolution = NULL, resolved_by = NULL, resolved_at = NULL"
        " WHERE id = (SELECT max(id) FROM payment_cases)"
    )


def another_amount(shop: Shop, total: int) -> tuple[int, str]:
    """Return an account and its paid session, whose total was not the price."""
    user_id = shop.account()
    page = shop.order(user_id)
    shop.stripe.alter(page, amount_total=total)
    shop.stripe.pay(page)
    deliver(shop)
    return user_id, page


def over(shop: Shop, method: str) -> tuple[int, str]:
    """Return an account and its page, credited, with an open case of $1.00 too much."""
    if method == "btcpay":
        return odd_invoice(shop, "paid_over")
    user_id, page = another_amount(shop, 300)
    shop.decide("credit")
    return user_id, page


@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_a_surplus_becomes_tokens_of_the_purchase(shop: Shop, method: str) -> None:
    user_id, page = over(shop, method)
    assert shop.decide("credit_surplus")["resolution"] == "credit_surplus"
    assert shop.paid_tokens(user_id) == TOKENS * 3 // 2
    assert shop.lots(user_id) == [TOKENS * 3 // 2]
    order = shop.order_of(page)
    assert (order["tokens"], order["credited_surplus_minor"], order["state"]) == (
        TOKENS * 3 // 2,
        100,
        "paid",
    )
    payload = shop.rows("SELECT payload FROM outbox WHERE kind = 'receipt' ORDER BY id")[1]
    assert (payload["payload"]["price"], payload["payload"]["tokens"]) == ("$1.00", TOKENS // 2)
    shop.reconcile()
    assert [case["resolution"] for case in shop.cases() if case["kind"] == "paid_over"] == [
        "credit_surplus"
    ]
    # Nothing of it is left, whoever asks again.
    reopen_newest(shop)
    assert [name for name, *_ in offered(shop)] == ["refund_all", "dismiss"]
    with pytest.raises(InvalidRequest, match="decided already: superseded"):
        shop.decide("credit_surplus")
    # A third of the money is a third of all tokens.
    shop.refund(order["number"], 100)
    assert shop.lots(user_id) == [TOKENS]
    shop.refund(order["number"])
    assert (shop.paid_tokens(user_id), shop.history(user_id)) == (0, ["refunded"])
    order = shop.order_of(page)
    assert (order["returned_minor"], order["tokens_owed"]) == (300, 0)


def test_a_part_that_was_refunded_before_is_a_part_of_the_surplus_too(shop: Shop) -> None:
    user_id, page = over(shop, "stripe")
    shop.refund(shop.order_of(page)["number"], 75)
    assert shop.paid_tokens(user_id) == TOKENS * 3 // 4
    shop.decide("credit_surplus")
    order = shop.order_of(page)
    assert (order["tokens_taken"], shop.paid_tokens(user_id)) == (9_375_000, 28_125_000)


def test_a_bank_takes_the_tokens_of_a_surplus_too(shop: Shop) -> None:
    user_id, page = over(shop, "stripe")
    shop.decide("credit_surplus")
    shop.spend(user_id, 30_000_000)
    shop.buy(user_id, "starter")
    shop.reconcile()
    shop.stripe.open_dispute(shop.stripe.charge_of(page))
    deliver(shop)
    order = shop.order_of(page)
    assert (order["tokens_taken"], order["tokens_owed"]) == (7_500_000, 30_000_000)
    assert shop.lots(user_id) == [0, 5_000_000]


@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_all_of_an_overpayment_is_refunded(shop: Shop, method: str) -> None:
    user_id, page = over(shop, method)
    provider = shop.stripe if method == "stripe" else shop.btcpay
    assert shop.decide("refund_all")["resolution"] == "refund_all"
    found = provider.truth_of(page)
    assert found["refunded"] + found.get("promised", 0) == 300
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["refunded"], 0)


def test_a_refused_refund_of_all_opens_the_case_again(shop: Shop) -> None:
    user_id, _ = odd_invoice(shop, "paid_over")
    shop.btcpay.set_fault("POST /api/v1/stores/*/refund", status=400)
    shop.decide("refund_all")
    shop.btcpay.clear_faults()
    assert shop.cases()[0]["resolution"] is None
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], TOKENS)
    assert offered(shop) == OVER


def resolve(shop: Shop, name: str, seen: str) -> str:
    """Decide the newest case as the panel does; return the outcome or why not."""
    case_id = int(shop.cases()[-1]["id"])
    with shop.app.app_context():
        try:
            case_decisions.prepare(case_id, name, shop.settings)
            with transaction():
                _, refund_id = case_decisions.resolve(case_id, name, actor="cli:ada", seen=seen)
        except InvalidRequest as problem:
            return problem.message
        if refund_id is not None:
            refunds.execute_refund(refund_id, shop.settings)
    return "done"


@pytest.mark.parametrize("name", ["credit", "refund", "dismiss"])
def test_more_money_since_it_was_seen(shop: Shop, name: str) -> None:
    user_id, page = odd_invoice(shop, "paid_partial")
    seen = offer(shop).find(name).seen
    shop.btcpay.pay(page, share="0.3", method="BTC-CHAIN")
    shop.btcpay.confirm(page)
    shop.read(page)
    [case] = [case for case in shop.cases() if case["resolution"] is None]
    assert "has changed since you saw it" in resolve(shop, name, seen)
    assert (shop.cases()[-1]["resolution"], shop.paid_tokens(user_id)) == (None, 0)
    assert shop.rows("SELECT * FROM payment_reversals") == []
    assert case["id"] == shop.cases()[-1]["id"]
    assert resolve(shop, name, offer(shop).find(name).seen) == "done"


def test_a_refund_elsewhere_since_it_was_seen(shop: Shop) -> None:
    _, page = another_amount(shop, 150)
    shop.stripe.set_rule("drop")
    seen = offer(shop).find("refund").seen
    shop.stripe.refund(shop.stripe.charge_of(page), 50)
    # The provider is asked before the decision, and reports the refund that no webhook did.
    assert resolve(shop, "refund", seen) == (
        "This case has changed since you saw it: now it is 'Refund $1.00'. Nothing was done: look"
        " at it again."
    )
    assert resolve(shop, "refund", offer(shop).find("refund").seen) == "done"
    assert shop.stripe.truth_of(page)["held"] == 0


def test_two_operators_decide_a_surplus_at_once(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "paid_over")
    seen: Json = {choice.name: choice.seen for choice in offer(shop).choices}
    names = ["credit_surplus", "refund", "refund_all", "dismiss"] * 2
    outcomes = together(shop.app, *[partial(resolve, shop, name, seen[name]) for name in names])
    assert outcomes.count("done") == 1, outcomes
    name = names[outcomes.index("done")]
    assert {item.partition(":")[0] for item in outcomes} == {
        "done", "This case has been decided already",
    }  # fmt: skip
    [case] = shop.cases()
    assert case["resolution"] == name
    tokens = {"credit_surplus": TOKENS * 3 // 2, "refund_all": 0}
    assert shop.paid_tokens(user_id) == tokens.get(name, TOKENS)
    amount = {"refund": 100, "refund_all": 300}.get(name, 0)
    rows = shop.rows("SELECT amount_minor FROM payment_reversals")
    assert [row["amount_minor"] for row in rows] == ([amount] if amount else [])
    # Others may have asked the provider just then; in that case reconciliation makes the refund.
    assert shop.btcpay.truth_of(page)["promised"] in {0, amount}


def test_a_surplus_that_is_gone_is_not_credited(shop: Shop) -> None:
    user_id, page = odd_invoice(shop, "paid_over")
    shop.refund(shop.order_of(page)["number"], 300)
    assert shop.cases()[0]["resolution"] == cases.REFUND
    with pytest.raises(InvalidRequest, match="decided already: refunded by cli:test"):
        shop.decide("credit_surplus")
    reopen_newest(shop)
    case_id = int(shop.cases()[0]["id"])
    with (
        shop.app.app_context(),
        transaction(),
        pytest.raises(InvalidRequest, match="No surplus of this purchase is left"),
    ):
        case_decisions.resolve(case_id, "credit_surplus", actor="cli:ada")
    assert shop.paid_tokens(user_id) == 0
