"""Charges by the price that a hold was placed with, however its request ends."""

import random

import pytest

from promptly.prices import Price
from promptly.services import metering
from promptly.services.metering.recovery import STALE_SECONDS
from tests.services.metering.meter import Meter
from tests.services.metering.pricing import add_price
from tests.support.books import Account

RATES = (0, 1, 33, 100, 250, 333, 100_000)


@pytest.fixture
def price(meter: Meter) -> Price:
    """Input at 1.5 tokens, cached input at a quarter, output at 3.33."""
    return add_price(meter, 150, 25, 333)


def test_a_settlement_charges_by_the_price_rounded_up_once(
    meter: Meter, account: Account, price: Price
) -> None:
    hold = meter.place(account, 400, price=price)
    done = meter.settle(account, hold.request_id, 101, 7, cached=40)
    # 61 * 1.5 + 40 * 0.25 + 7 * 3.33 = 124.81
    assert done is not None and done.charged_tokens == 125
    [event] = meter.books.events(account)
    assert event["price_id"] == price.id
    assert (event["charged_tokens"], event["uncharged_tokens"]) == (125, 0)
    assert meter.figures(account) == (875, 0, 0, 0, 0)


def test_random_counts_and_prices_in_batches(meter: Meter) -> None:
    """The database and the gateway compute the same, also where the balance does not reach."""
    dice = random.Random(4)
    account = meter.books.account(paid_tokens=40_000, trial_tokens=5_000)
    settlements, costs = [], []
    for _ in range(40):
        price = add_price(meter, *(dice.choice(RATES) for _ in range(3)))
        hold = meter.place(account, dice.randint(0, 900), 0, max_open_holds=100, price=price)
        prompt, completion = dice.randint(0, 900), dice.randint(0, 300)
        cached = dice.randint(0, prompt)
        settlements.append(
            meter.settlement(
                account, hold.request_id, prompt, completion, cached=cached, price=price
            )
        )
        costs.append(price.cost(prompt, cached, completion))
    charges = metering.settle_many(meter.database, settlements)
    assert [
        charge.charged_tokens + charge.uncharged_tokens for charge in charges if charge
    ] == costs
    charged = sum(charge.charged_tokens for charge in charges if charge)
    assert sum(meter.figures(account)) == 45_000 - charged


def test_the_largest_counts_at_the_largest_price(meter: Meter, account: Account) -> None:
    price = add_price(meter, 100_000, 100_000, 100_000)
    hold = meter.place(account, 400, price=price)
    most = 2**31 - 1
    done = meter.settle(account, hold.request_id, most, most, cached=most)
    assert done is not None
    assert (done.charged_tokens, done.uncharged_tokens) == (1000, 2 * most * 1000 - 1000)


def test_recovery_charges_by_the_price(meter: Meter, account: Account, price: Price) -> None:
    hold = meter.place(account, 400, price=price)
    meter.checkpoint((hold.request_id, 101, 7), cached=40)
    meter.silence(hold.request_id, STALE_SECONDS + 1)
    assert meter.recover(hold.request_id)
    [event] = meter.books.events(account)
    assert (event["charged_tokens"], event["price_id"]) == (125, price.id)


def test_a_dead_request_that_was_free_is_recorded(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 0, price=add_price(meter, 0, 0, 0))
    meter.checkpoint((hold.request_id, 101, 7))
    meter.silence(hold.request_id, STALE_SECONDS + 1)
    assert meter.recover(hold.request_id)
    [event] = meter.books.events(account)
    assert (event["completion_tokens"], event["charged_tokens"]) == (7, 0)


@pytest.mark.parametrize(("completion", "cached"), [(27, 40), (7, 101), (7, 0)])
def test_late_after_recovery_completes_the_charge_or_gives_back(
    meter: Meter, account: Account, price: Price, completion: int, cached: int
) -> None:
    hold = meter.place(account, 400, price=price)
    meter.checkpoint((hold.request_id, 101, 7), cached=40)
    meter.silence(hold.request_id, STALE_SECONDS + 1)
    assert meter.recover(hold.request_id)
    counts = (account, hold.request_id, 101, completion)
    cost = price.cost(101, cached, completion)
    for _ in range(2):
        done = meter.settle_late(*counts, cached=cached, price=price)
        assert done == metering.Charge(cost, 0, 1000 - cost)
    assert meter.figures(account) == (1000 - cost, 0, 0, 0, 0)


def test_giving_back_begins_with_the_last_that_was_charged(meter: Meter) -> None:
    account = meter.books.account(paid_tokens=50, trial_tokens=100)
    price = add_price(meter, 100, 0, 100)
    hold = meter.place(account, 150, price=price)
    meter.checkpoint((hold.request_id, 200, 1))
    meter.silence(hold.request_id, STALE_SECONDS + 1)
    assert meter.recover(hold.request_id)
    # 201: 100 of the trial, 50 paid, 51 not covered.
    assert meter.figures(account)[:2] == (0, 0)
    meter.end_trial(account)
    done = meter.settle_late(account, hold.request_id, 200, 1, cached=131, price=price)
    # 70: all of it by the trial. The trial's rest has expired.
    assert done == metering.Charge(70, 0, 50)
    assert meter.figures(account)[:2] == (50, 30)


def test_late_for_a_lost_hold_charges_by_the_price(
    meter: Meter, account: Account, price: Price
) -> None:
    hold = meter.place(account, 100, price=price)
    lose = "DELETE FROM holds WHERE request_id = :id"
    meter.books.rows(lose, id=hold.request_id)
    meter.books.rows(
        "UPDATE balances SET held_paid = 0, open_holds = 0 WHERE user_id = :id", id=account.user_id
    )
    # A hold that is placed again has the same price.
    assert metering.place_lost_hold(meter.database, hold, 60) == (60, False)
    row = meter.hold_row(hold.request_id)
    assert row is not None and row["price_id"] == price.id
    meter.books.rows(lose, id=hold.request_id)
    meter.books.rows(
        "UPDATE balances SET held_paid = 0, open_holds = 0 WHERE user_id = :id", id=account.user_id
    )
    done = meter.settle_late(account, hold.request_id, 101, 7, cached=40, price=price)
    assert done is not None and done.charged_tokens == 125
    [event] = meter.books.events(account)
    assert event["price_id"] == price.id
