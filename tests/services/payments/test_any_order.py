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
    """Assert that our books agree with the simulator's."""
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
    steps=st.lists(st.sampled_from(STRIPE_STEPS), max_size=6),
    delayed=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_cards_with_refunds_and_disputes(
    shop: Shop, steps: list[str], delayed: bool, seed: int
) -> None:
    dice = random.Random(seed)
    shop.stripe.set_rule("hold")
    user_id = shop.account()
    page = shop.order(user_id)
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
        elif shop.stripe.charge_of(page) and shop.stripe.truth_of(page)["paid"]:
            stripe_step(shop, page, step, dice)
        deliver_some(shop, shop.stripe, page, dice)
    # Reconciliation finds what was never delivered.
    shop.reconcile()
    assert_true(shop, user_id, page, spent)


BTCPAY_STEPS = ("pay", "part", "confirm", "replace", "expire", "settled", "invalid")


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(st.sampled_from(BTCPAY_STEPS), max_size=7),
    seed=st.integers(0, 2**32),
)
def test_bitcoin_that_comes_late_in_parts_or_not_at_all(
    shop: Shop, steps: list[str], seed: int
) -> None:
    dice = random.Random(seed)
    shop.btcpay.set_rule("hold")
    user_id = shop.account()
    page = shop.order(user_id, method="btcpay")
    for step in steps:
        try:
            if step in {"pay", "part"}:
                share = "1" if step == "pay" else "0.6"
                shop.btcpay.pay(page, share=share, method=dice.choice(["BTC-LN", "BTC-CHAIN"]))
            elif step == "confirm":
                shop.btcpay.confirm(page)
            elif step == "replace":
                shop.btcpay.replace(page)
            elif step == "expire":
                shop.btcpay.alter(page, expires=1)
                shop.btcpay.advance(0)
            else:
                shop.btcpay.mark(page, step.capitalize())
        except SandboxError:
            pass
        deliver_some(shop, shop.btcpay, page, dice)
    shop.reconcile()
    found = shop.btcpay.truth_of(page)
    credited = shop.order_of(page)["credited_at"] is not None
    if not credited:
        assert found["status"] != "Settled" and shop.paid_tokens(user_id) == 0
    else:
        # A credited invoice that is no longer settled has lost its tokens again.
        assert shop.paid_tokens(user_id) == (TOKENS if found["status"] == "Settled" else 0)
    assert shop.differences() == []


def deliver_some(shop: Shop, provider: SimulatedProvider, page: str, dice: random.Random) -> None:
    """Deliver some of the page's messages, in random order, some in several copies at once."""
    messages = held(shop, page)
    for message in dice.sample(messages, k=dice.randint(0, len(messages))):
        provider.deliver(message, copies=dice.choice([1, 1, 2, 5]))
        if dice.random() < 0.5:
            shop.work(workers=dice.choice([1, 3]))
