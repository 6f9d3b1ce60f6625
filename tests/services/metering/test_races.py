"""Concurrent requests on one balance: never below zero, none charged twice, none lost."""

import random
import threading
from collections.abc import Callable
from functools import partial

import pytest

from promptly.errors import InsufficientQuota, KeyLimitReached, RateLimited, TokensReserved
from promptly.services import metering
from promptly.services.metering.recovery import STALE_SECONDS
from tests.services.metering import caps
from tests.services.metering.meter import Meter
from tests.support.books import Account
from tests.support.races import together


def test_fifty_requests_on_a_balance_for_ten(meter: Meter) -> None:
    account = meter.books.account(paid_tokens=800, trial_tokens=200)

    def request(number: int) -> int | None:
        dice = random.Random(number)
        hold = None
        while hold is None:
            try:
                hold = meter.place(account, 100, minimum=51, max_open_holds=1000)
            except TokensReserved:
                # Others free what they hold and do not use: retry until the outcome is final.
                continue
            except InsufficientQuota:
                return None
        assert 51 <= hold.held_tokens <= 100
        held = meter.adjust(hold.request_id, dice.choice([60, 100, 140])) or 0
        meter.checkpoint((hold.request_id, 50, 1))
        done = meter.settle(account, hold.request_id, 50, min(held - 50, dice.randint(10, 90)))
        assert done is not None
        assert done.uncharged_tokens == 0
        return done.charged_tokens

    results = together(meter.books.app, *[partial(request, number) for number in range(50)])
    charges = [charge for charge in results if charge is not None]
    row = meter.row(account)
    assert row["paid_tokens"] + row["trial_tokens"] == 1000 - sum(charges) >= 0
    assert meter.figures(account)[2:] == (0, 0, 0)
    assert len(meter.books.events(account)) == len(charges)
    # Each is charged 140 at most, and none was refused while the balance sufficed.
    assert len(charges) >= 7
    assert meter.books.balance(account)["available_tokens"] <= 50


def test_more_requests_at_once_than_allowed(meter: Meter) -> None:
    account = meter.books.account(paid_tokens=100_000)

    def request() -> bool:
        try:
            meter.place(account, 10, max_open_holds=8)
        except RateLimited:
            return False
        return True

    assert together(meter.books.app, *[request] * 30).count(True) == 8
    assert meter.figures(account) == (100_000, 0, 80, 0, 8)


def test_the_operators_update_loses_neither_credit_nor_charge(meter: Meter) -> None:
    account = meter.books.account(paid_tokens=10_000)
    update = (
        "UPDATE token_purchases SET paid_tokens = paid_tokens + 1000"
        " WHERE user_id = (SELECT id FROM users WHERE email = :email)"
    )

    def spend() -> int:
        charged = 0
        for _ in range(10):
            hold = meter.place(account, 50, max_open_holds=1000)
            done = meter.settle(account, hold.request_id, 20, 10)
            charged += done.charged_tokens if done else 0
        return charged

    def credit() -> int:
        for _ in range(5):
            meter.books.rows(update, email=account.email)
        return 0

    charges = together(meter.books.app, *[spend] * 10, *[credit] * 4)
    assert sum(charges) == 10 * 10 * 30
    assert meter.figures(account) == (10_000 + 20 * 1000 - 3000, 0, 0, 0, 0)


@pytest.mark.parametrize("round_number", range(10))
def test_recovery_and_settlement_at_once(meter: Meter, account: Account, round_number: int) -> None:
    hold = meter.place(account, 400)
    meter.checkpoint((hold.request_id, 100, 50))
    meter.silence(hold.request_id, STALE_SECONDS + 1)

    def settle() -> bool:
        return meter.settle(account, hold.request_id, 100, 70) is not None

    calls: list[Callable[[], bool]] = [settle, partial(meter.recover, hold.request_id)]
    results = together(meter.books.app, *calls, *calls)
    assert results.count(True) == 1
    was_settled = results[0] or results[2]
    assert meter.figures(account) == (1000 - (170 if was_settled else 150), 0, 0, 0, 0)
    assert len(meter.books.events(account)) == 1
    # Whichever was first, a late settlement corrects the charge.
    done = meter.settle_late(account, hold.request_id, 100, 70)
    assert done is not None
    assert done.charged_tokens == 170
    assert meter.figures(account) == (830, 0, 0, 0, 0)


def test_late_settlements_at_once(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 400)
    meter.checkpoint((hold.request_id, 100, 50))
    meter.silence(hold.request_id, STALE_SECONDS + 1)
    meter.recover(hold.request_id)
    late: Callable[[], metering.Charge | None] = partial(
        meter.settle_late, account, hold.request_id, 100, 80
    )
    results = together(meter.books.app, *[late] * 8)
    assert {result.charged_tokens for result in results if result} == {180}
    assert meter.figures(account) == (820, 0, 0, 0, 0)
    assert len(meter.books.events(account)) == 1


@pytest.mark.parametrize("round_number", range(5))
def test_recovery_and_late_settlement_at_once(
    meter: Meter, account: Account, round_number: int
) -> None:
    hold = meter.place(account, 400)
    meter.checkpoint((hold.request_id, 100, 50))
    meter.silence(hold.request_id, STALE_SECONDS + 1)

    def late() -> bool:
        return meter.settle_late(account, hold.request_id, 100, 80) is not None

    together(meter.books.app, late, late, partial(meter.recover, hold.request_id))
    assert meter.figures(account) == (820, 0, 0, 0, 0)
    assert len(meter.books.events(account)) == 1


def test_one_key_never_spends_more_than_its_cap(meter: Meter) -> None:
    """Requests race on a key's cap while the day changes and the cap is set again."""
    account = meter.books.account(paid_tokens=100_000)
    other = meter.books.key(account)
    caps.set_cap(meter, account, 1000)
    rounds = threading.Semaphore(0)

    def request(number: int) -> int:
        dice = random.Random(number)
        while True:
            try:
                hold = meter.place(account, 60, minimum=11, max_open_holds=1000)
            except TokensReserved:
                continue
            except KeyLimitReached:
                rounds.release()
                return 0
            held = meter.adjust(hold.request_id, dice.choice([20, 60, 90])) or 0
            meter.settle(account, hold.request_id, 10, min(held - 10, dice.randint(0, 60)))

    def spend_elsewhere() -> int:
        for _ in range(20):
            hold = meter.place(other, 50, max_open_holds=1000)
            meter.settle(other, hold.request_id, 50)
        return 0

    def change() -> int:
        # Once somebody has met the cap, a day goes by; then the same cap is set anew.
        rounds.acquire(timeout=30)
        caps.turn_back(meter, account)
        caps.set_cap(meter, account, 1000)
        return 0

    calls: list[Callable[[], int]] = [partial(request, number) for number in range(16)]
    together(meter.books.app, *calls, spend_elsewhere, change)
    spent = meter.books.rows(
        "SELECT date_trunc('day', created_at, 'UTC') AS day,"
        " sum(charged_paid) AS tokens, sum(uncharged_tokens) AS uncharged"
        " FROM usage_events WHERE key_id = :key_id GROUP BY 1 ORDER BY 1",
        key_id=account.key_id,
    )
    assert 1 <= len(spent) <= 2
    for day in spent:
        assert day["tokens"] <= 1000
        assert day["uncharged"] == 0
    # A refused request found less than the smallest one left.
    assert caps.use(meter, account)[1:] == (0, 0)
    assert 1000 - spent[0]["tokens"] < 11
