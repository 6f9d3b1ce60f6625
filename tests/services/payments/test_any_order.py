"""For any events, in any order and number, the ledger agrees with the provider.

The simulators know the true state of each payment (`truth_of`). Between the steps some withheld
events are delivered, often in many copies at once, so that intermediate states are applied too.
"""

import random
from collections.abc import Iterator
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptly.errors import InvalidRequest
from sandbox.process import SandboxError
from sandbox.provider.process import SimulatedProvider
from tests.run import EXHAUSTIVE
from tests.support.shop import Json, Shop

TOKENS, PRICE = 25_000_000, 200
COPIES = 20
EXAMPLES = 25 if EXHAUSTIVE else 8


def held(shop: Shop, page: str) -> list[str]:
    """Return the ids of the messages about a page's payment; InvoiceCreated is not about one."""
    subjects = {page}
    if page.startswith("cs_"):
        session = shop.stripe.object(page)
        subjects |= {item["id"] for item in about(shop, session["payment_intent"])}
        messages = shop.stripe.messages()
    else:
        messages = shop.btcpay.messages()
    announced = [item for item in messages if item["type"] != "InvoiceCreated"]
    return [item["id"] for item in announced if item["subject"] in subjects]


def about(shop: Shop, payment: str | None) -> Iterator[Json]:
    """Yield the charge, the refunds and the disputes of a Stripe payment."""
    for kind in ("charge", "refund", "dispute"):
        for item in shop.stripe.act("objects", kind=kind):
            if payment is not None and item["payment_intent"] == payment:
                yield item


def expected(shop: Shop, page: str) -> tuple[int, int]:
    """Return the tokens credited, and those reversed of them, according to the simulator."""
    if page.startswith("cs_"):
        found = shop.stripe.truth_of(page)
        reversed_minor = found["refunded"] + found["lost"] + found["withheld"]
        credited = found["paid"] > 0
    else:
        found = shop.btcpay.truth_of(page)
        reversed_minor = PRICE if found["status"] == "Invalid" else 0
        credited = found["status"] == "Settled"
    if not credited:
        return 0, 0
    return TOKENS, TOKENS * min(reversed_minor, PRICE) // PRICE


def assert_true(shop: Shop, user_id: int, page: str, spent: int = 0) -> None:
    """Assert that our books agree with the simulator's, for a session with the order's price."""
    credited, reversed_tokens = expected(shop, page)
    order = shop.order_of(page)
    taken, owed = order["tokens_taken"], order["tokens_owed"]
    assert taken + owed == reversed_tokens
    assert shop.paid_tokens(user_id) == credited - taken - spent
    if not spent:
        assert owed == 0
    assert shop.differences() == []


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("method", ["stripe", "btcpay"])
def test_twenty_copies_of_each_event_at_once_in_every_order(
    shop: Shop, method: str, order: tuple[int, ...]
) -> None:
    provider = shop.stripe if method == "stripe" else shop.btcpay
    provider.set_rule("hold")
    user_id = shop.account()
    page = shop.buy(user_id, method=method)
    if method == "stripe":
        charge = shop.stripe.charge_of(page)
        shop.stripe.refund(charge, 50)
        dispute = shop.stripe.open_dispute(charge, amount=150)
        shop.stripe.close_dispute(dispute["id"], "won")
    # Three messages: the payment, one in the middle, and the last.
    messages = held(shop, page)
    chosen = [messages[0], messages[len(messages) // 2], messages[-1]]
    for place in order:
        attempts = provider.deliver(chosen[place], copies=COPIES)
        assert [attempt["status"] for attempt in attempts] == [200] * COPIES
        shop.work(workers=4)
        assert_true(shop, user_id, page)
    assert len(shop.events()) == len(set(chosen))
    assert {event["state"] for event in shop.events()} <= {"handled", "ignored"}


def assert_bounded(shop: Shop, user_id: int, page: str, spent: int = 0) -> None:
    """Assert that no more went back than came, that our books say so, and that tokens follow it."""
    order = shop.read(page)
    if page.startswith("cs_"):
        found = shop.stripe.truth_of(page)
        came, by_bank = found["paid"], found["lost"] + found["withheld"]
        given_back = found["refunded"]
    else:
        found = shop.btcpay.truth_of(page)
        came, by_bank = found["settled"], 0
        given_back = found["refunded"] + found["promised"]
    assert 0 <= given_back <= came
    assert order["received_minor"] == came
    assert order["returned_minor"] == min(came, given_back + by_bank)
    active = shop.rows("SELECT kind, counts, amount_minor FROM payment_reversals WHERE active")
    surplus = sum(row["amount_minor"] for row in active if not row["counts"])
    reversed_minor, basis = given_back - surplus + by_bank, came - surplus
    if any(row["kind"] == "invalidation" for row in active) or 0 < basis <= reversed_minor:
        expected = TOKENS
    else:
        expected = TOKENS * reversed_minor // basis if basis else 0
    credited = order["credited_at"] is not None
    assert order["tokens_taken"] + order["tokens_owed"] == (expected if credited else 0)
    assert shop.paid_tokens(user_id) == (TOKENS if credited else 0) - order["tokens_taken"] - spent
    assert shop.differences() == []


OPERATOR_STEPS = ("credit_case", "refund_case", "dismiss_case", "refund_rest", "refund_part")


def operator_step(shop: Shop, page: str, step: str) -> None:
    """Let an operator decide the newest open case, or refund the order; refusals are fine."""
    try:
        if step in {"refund_rest", "refund_part"}:
            part = 33 if step == "refund_part" else None
            shop.refund(shop.order_of(page)["number"], part)
            return
        waiting = [case["id"] for case in shop.cases() if case["resolution"] is None]
        if waiting:
            shop.decide(step.removesuffix("_case"), waiting[-1])
    except InvalidRequest:
        return


STRIPE_STEPS = ("refund", "refund", "fail_refund", "dispute", "win", "lose", "inquire", "spend")


def stripe_step(shop: Shop, page: str, step: str, dice: random.Random) -> None:
    """Apply one event to a payment; do nothing if Stripe would not allow it."""
    session = shop.stripe.object(page)
    charge = shop.stripe.charge_of(page)
    parts = list(about(shop, session["payment_intent"]))
    refunds = [item["id"] for item in parts if item["object"] == "refund"]
    disputes = [item["id"] for item in parts if item["object"] == "dispute"]
    try:
        if step == "refund":
            shop.stripe.refund(charge, dice.choice([1, 33, 50, 120]))
        elif step == "fail_refund" and refunds:
            shop.stripe.fail_refund(dice.choice(refunds), lowers_charge=dice.random() < 0.5)
        elif step == "dispute":
            shop.stripe.open_dispute(charge, amount=dice.choice([None, 60]))
        elif step == "inquire":
            shop.stripe.open_dispute(charge, status="warning_needs_response")
        elif step in {"win", "lose"} and disputes:
            shop.stripe.close_dispute(disputes[-1], {"win": "won", "lose": "lost"}[step])
    except SandboxError:
        return


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(st.sampled_from(STRIPE_STEPS + OPERATOR_STEPS), max_size=7),
    delayed=st.booleans(),
    total=st.sampled_from([PRICE, PRICE, PRICE + 38]),
    seed=st.integers(0, 2**32),
)
def test_cards_with_refunds_and_disputes(
    shop: Shop, steps: list[str], delayed: bool, total: int, seed: int
) -> None:
    """Sometimes the account adds a tax, so that the payment is a case."""
    dice = random.Random(seed)
    fresh(shop)
    shop.stripe.set_rule("hold")
    user_id = shop.account()
    page = shop.order(user_id)
    shop.stripe.alter(page, amount_total=total)
    spent = 0
    shop.stripe.pay(page, delayed=delayed)
    deliver_some(shop, shop.stripe, page, dice)
    if delayed:
        shop.stripe.settle(page, succeeded=dice.random() < 0.8)
    for step in steps:
        if step == "spend":
            part = min(1_000_000, shop.paid_tokens(user_id))
            if part:
                shop.spend(user_id, part)
            spent += part
        elif step in OPERATOR_STEPS:
            operator_step(shop, page, step)
        elif shop.stripe.charge_of(page) and shop.stripe.truth_of(page)["paid"]:
            stripe_step(shop, page, step, dice)
        deliver_some(shop, shop.stripe, page, dice)
    # Reconciliation finds what was never delivered.
    shop.reconcile()
    assert_bounded(shop, user_id, page, spent)


BTCPAY_STEPS = ("pay", "part", "over", "confirm", "replace", "expire", "settled", "invalid")
REFUND_STEPS = ("claim", "pay_out", "archive")
SHARES = {"pay": "1", "part": "0.6", "over": "1.5"}


def btcpay_step(shop: Shop, page: str, step: str, dice: random.Random) -> None:
    """Apply one event to an invoice or to its newest refund, if BTCPay allows it."""
    offers = shop.rows(
        "SELECT provider_id FROM payment_reversals WHERE kind = 'refund' ORDER BY id"
    )
    try:
        if step in SHARES:
            method = dice.choice(["BTC-LN", "BTC-CHAIN"])
            shop.btcpay.pay(page, share=SHARES[step], method=method)
        elif step == "confirm":
            shop.btcpay.confirm(page)
        elif step == "replace":
            shop.btcpay.replace(page)
        elif step == "expire":
            shop.btcpay.alter(page, expires=1)
            shop.btcpay.advance(0)
        elif step in {"settled", "invalid"}:
            shop.btcpay.mark(page, step.capitalize())
        elif offers and offers[-1]["provider_id"]:
            refund = offers[-1]["provider_id"]
            act = {
                "claim": shop.btcpay.claim,
                "pay_out": shop.btcpay.pay_out,
                "archive": shop.btcpay.archive,
            }
            act[step](refund)
    except SandboxError:
        return


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(st.sampled_from(BTCPAY_STEPS + OPERATOR_STEPS + REFUND_STEPS), max_size=9),
    seed=st.integers(0, 2**32),
)
def test_bitcoin_that_comes_late_in_parts_or_not_at_all(
    shop: Shop, steps: list[str], seed: int
) -> None:
    dice = random.Random(seed)
    fresh(shop)
    shop.btcpay.set_rule("hold")
    user_id = shop.account()
    page = shop.order(user_id, method="btcpay")
    for step in steps:
        if step in OPERATOR_STEPS:
            operator_step(shop, page, step)
        else:
            btcpay_step(shop, page, step, dice)
        deliver_some(shop, shop.btcpay, page, dice)
    shop.reconcile()
    found, order = shop.btcpay.truth_of(page), shop.order_of(page)
    if order["credited_at"] is None:
        assert found["status"] != "Settled"
    elif found["status"] == "Invalid" and not order["approved"]:
        assert shop.paid_tokens(user_id) == 0
    assert_bounded(shop, user_id, page)


def fresh(shop: Shop) -> None:
    """Forget the orders of the examples before, and their cases."""
    shop.rows("TRUNCATE payment_reversals, payment_cases, webhook_events, orders")
    shop.rows("DELETE FROM ledger_entries")
    shop.rows("DELETE FROM usage_events")
    shop.rows("UPDATE balances SET paid_tokens = 0, trial_tokens = 0, held_paid = 0")


def deliver_some(shop: Shop, provider: SimulatedProvider, page: str, dice: random.Random) -> None:
    """Deliver some of the page's messages, in random order, some in several copies at once."""
    messages = held(shop, page)
    for message in dice.sample(messages, k=dice.randint(0, len(messages))):
        provider.deliver(message, copies=dice.choice([1, 1, 2, 5]))
        if dice.random() < 0.5:
            shop.work(workers=dice.choice([1, 3]))
