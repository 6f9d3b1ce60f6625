"""Settling: charged tokens, freed tokens, and tokens that no balance covers."""

import pytest
from psycopg2.errors import CheckViolation

from promptly.services import account_deletion, metering
from promptly.transactions import transaction
from tests.services.metering.meter import Meter
from tests.support.books import Account


def charge(meter: Meter, account: Account, held: int, cost: int) -> tuple[int, int, int]:
    """Place a hold and settle it; return tokens charged, uncharged, and left to spend."""
    hold = meter.place(account, held)
    done = meter.settle(account, hold.request_id, cost - cost // 3, cost // 3)
    assert done is not None
    return done.charged_tokens, done.uncharged_tokens, done.balance_tokens


@pytest.mark.parametrize(
    ("held", "cost", "expected"),
    [
        (400, 0, (0, 0, 1000)),
        (400, 150, (150, 0, 850)),
        (400, 400, (400, 0, 600)),
        (400, 700, (700, 0, 300)),
        (400, 1000, (1000, 0, 0)),
        (400, 1500, (1000, 500, 0)),
        (1000, 1500, (1000, 500, 0)),
    ],
)
def test_a_charge(
    meter: Meter, account: Account, held: int, cost: int, expected: tuple[int, int, int]
) -> None:
    assert charge(meter, account, held, cost) == expected
    assert meter.figures(account) == (expected[2], 0, 0, 0, 0)
    [event] = meter.books.events(account)
    assert event["charged_tokens"] == expected[0]
    assert event["uncharged_tokens"] == expected[1]
    assert event["balance_tokens"] == expected[2]
    assert (event["prompt_tokens"], event["completion_tokens"]) == (cost - cost // 3, cost // 3)


@pytest.mark.parametrize(
    ("held", "cost", "trial", "paid"),
    [(200, 50, 50, 0), (500, 450, 300, 150), (200, 450, 300, 150), (1300, 1400, 300, 1000)],
)
def test_trial_is_charged_before_paid(
    meter: Meter, trial_account: Account, held: int, cost: int, trial: int, paid: int
) -> None:
    charge(meter, trial_account, held, cost)
    [event] = meter.books.events(trial_account)
    assert (event["charged_trial"], event["charged_paid"]) == (trial, paid)
    assert meter.figures(trial_account) == (1000 - paid, 300 - trial, 0, 0, 0)


def test_the_event_records_the_settlement(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 100)
    meter.settle(account, hold.request_id, 20, 30)
    [event] = meter.books.events(account)
    recorded = {
        name: event[name] for name in ("request_id", "endpoint", "model", "outcome", "key_id")
    }
    assert recorded == {
        "request_id": hold.request_id,
        "endpoint": "chat.completions",
        "model": "test-model",
        "outcome": "completed",
        "key_id": account.key_id,
    }
    assert (event["time_to_first_token_ms"], event["duration_ms"]) == (12, 345)
    assert meter.hold_row(hold.request_id) is None


def test_cached_tokens_are_recorded_at_the_same_price(meter: Meter, account: Account) -> None:
    cached, whole = meter.place(account, 100), meter.place(account, 100)
    assert meter.settle(account, cached.request_id, 60, 10, cached=60)
    [charge] = metering.settle_many(
        meter.database, [meter.settlement(account, whole.request_id, 60, 10, cached=40)]
    )
    assert charge is not None and charge.charged_tokens == 70
    assert [
        (event["cached_prompt_tokens"], event["charged_tokens"])
        for event in meter.books.events(account)
    ] == [(60, 70), (40, 70)]


@pytest.mark.parametrize("cached", [-1, 61])
def test_cached_tokens_are_part_of_the_prompt(meter: Meter, account: Account, cached: int) -> None:
    hold = meter.place(account, 100)
    with pytest.raises(CheckViolation, match="cached_in_prompt"):
        meter.settle(account, hold.request_id, 60, 10, cached=cached)
    with pytest.raises(CheckViolation, match="cached_in_prompt"):
        meter.checkpoint((hold.request_id, 60, 10), cached=cached)
    assert meter.settle(account, hold.request_id, 60, 10)


def test_what_exceeds_the_hold_leaves_other_holds_alone(meter: Meter, account: Account) -> None:
    other = meter.place(account, 800)
    assert charge(meter, account, 100, 500) == (200, 300, 0)
    assert meter.figures(account) == (800, 0, 800, 0, 1)
    done = meter.settle(account, other.request_id, 800)
    assert done is not None
    assert (done.charged_tokens, done.uncharged_tokens) == (800, 0)


def test_a_trial_that_expires_meanwhile_stays_chargeable(
    meter: Meter, trial_account: Account
) -> None:
    hold = meter.place(trial_account, 200)
    meter.end_trial(trial_account)
    done = meter.settle(trial_account, hold.request_id, 150)
    assert done is not None
    # The freed part of the trial has lapsed: only paid tokens are left to spend.
    assert (done.charged_tokens, done.balance_tokens) == (150, 1000)
    [event] = meter.books.events(trial_account)
    assert (event["charged_trial"], event["charged_paid"]) == (150, 0)


def test_beyond_the_hold_an_expired_trial_pays_nothing(
    meter: Meter, trial_account: Account
) -> None:
    hold = meter.place(trial_account, 100)
    meter.end_trial(trial_account)
    meter.settle(trial_account, hold.request_id, 250)
    [event] = meter.books.events(trial_account)
    assert (event["charged_trial"], event["charged_paid"]) == (100, 150)


def test_a_hold_settles_once(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 100)
    assert meter.settle(account, hold.request_id, 60) is not None
    assert meter.settle(account, hold.request_id, 60) is None
    assert meter.figures(account) == (940, 0, 0, 0, 0)
    assert len(meter.books.events(account)) == 1


def test_an_account_that_was_removed_is_not_charged(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 100)
    with meter.books.app.app_context(), transaction():
        account_deletion.remove(account.user_id)
    assert meter.settle(account, hold.request_id, 60) is None
    assert meter.settle_late(account, hold.request_id, 60) is None
    assert meter.adjust(hold.request_id, 200) is None
    assert meter.books.events(account) == []
