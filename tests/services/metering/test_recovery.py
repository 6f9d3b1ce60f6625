"""Recovery of holds whose process died, and late settlements."""

import uuid

import pytest

from promptly.services import account_deletion
from promptly.services.metering.recovery import STALE_SECONDS
from promptly.transactions import transaction
from tests.services.metering.meter import Meter
from tests.support.books import Account


def recovered(
    meter: Meter, account: Account, prompt: int, completion: int, cached: int = 0
) -> uuid.UUID:
    """Place a hold of 400, checkpoint it once unless the counts are 0, and recover it."""
    hold = meter.place(account, 400)
    if prompt or completion:
        meter.checkpoint((hold.request_id, prompt, completion), cached=cached)
    meter.silence(hold.request_id, STALE_SECONDS + 1)
    assert meter.recover(hold.request_id)
    return hold.request_id


def test_a_dead_hold_is_settled_at_its_last_checkpoint(meter: Meter, account: Account) -> None:
    request_id = recovered(meter, account, 100, 50)
    assert meter.figures(account) == (850, 0, 0, 0, 0)
    [event] = meter.books.events(account)
    assert event["outcome"] == "recovered"
    assert (event["prompt_tokens"], event["completion_tokens"]) == (100, 50)
    assert (event["charged_tokens"], event["uncharged_tokens"]) == (150, 0)
    row = meter.hold_row(request_id)
    assert row is not None
    assert row["state"] == "recovered"


def test_a_hold_at_which_nothing_happened_is_freed_without_an_event(
    meter: Meter, account: Account
) -> None:
    recovered(meter, account, 0, 0)
    assert meter.figures(account) == (1000, 0, 0, 0, 0)
    assert meter.books.events(account) == []


def test_a_dead_hold_without_output_is_charged_nothing(meter: Meter, account: Account) -> None:
    request_id = recovered(meter, account, 300, 0)
    assert meter.figures(account) == (1000, 0, 0, 0, 0)
    assert meter.books.events(account) == []
    # Its process was only stalled, and comes back with output.
    late = meter.settle_late(account, request_id, 300, 20)
    assert late is not None and late.charged_tokens == 320


def test_recovery_records_the_cached_tokens_of_the_last_checkpoint(
    meter: Meter, account: Account
) -> None:
    request_id = recovered(meter, account, 100, 50, cached=90)
    [event] = meter.books.events(account)
    assert (event["cached_prompt_tokens"], event["charged_tokens"]) == (90, 150)
    # A late settlement's count replaces it, whatever it was.
    for cached in (95, 20):
        meter.books.rows(
            "UPDATE holds SET state = 'recovered' WHERE request_id = :id", id=request_id
        )
        assert meter.settle_late(account, request_id, 100, 50, cached=cached)
        [event] = meter.books.events(account)
        assert (event["cached_prompt_tokens"], event["charged_tokens"]) == (cached, 150)


def test_a_late_settlement_after_recovery_without_output_records_cached_tokens(
    meter: Meter, account: Account
) -> None:
    request_id = recovered(meter, account, 300, 0, cached=280)
    assert meter.books.events(account) == []
    assert meter.settle_late(account, request_id, 300, 20, cached=280)
    [event] = meter.books.events(account)
    assert (event["prompt_tokens"], event["cached_prompt_tokens"]) == (300, 280)


def test_a_living_hold_is_left_alone(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 400)
    assert not meter.recover(hold.request_id)
    meter.silence(hold.request_id, STALE_SECONDS - 5)
    assert not meter.recover(hold.request_id)
    assert meter.figures(account)[2:] == (400, 0, 1)


def test_an_ended_hold_is_not_recovered(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 400)
    meter.settle(account, hold.request_id, 10)
    meter.silence(hold.request_id, 1000)
    assert not meter.recover(hold.request_id)
    request_id = recovered(meter, account, 10, 5)
    meter.silence(request_id, 1000)
    assert not meter.recover(request_id)
    assert meter.figures(account) == (975, 0, 0, 0, 0)


def test_late_after_a_settlement_whose_answer_was_lost(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 400)
    first = meter.settle(account, hold.request_id, 100, 50)
    assert meter.settle_late(account, hold.request_id, 100, 50) == first
    assert meter.figures(account) == (850, 0, 0, 0, 0)
    assert len(meter.books.events(account)) == 1


def test_late_while_the_hold_is_open_after_all(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 400)
    done = meter.settle_late(account, hold.request_id, 100, 50)
    assert done is not None
    assert (done.charged_tokens, done.balance_tokens) == (150, 850)
    assert meter.settle(account, hold.request_id, 100, 50) is None


@pytest.mark.parametrize(("prompt", "completion", "more"), [(100, 50, 0), (100, 90, 40)])
def test_late_after_recovery_charges_the_difference(
    meter: Meter, account: Account, prompt: int, completion: int, more: int
) -> None:
    request_id = recovered(meter, account, 100, 50)
    done = meter.settle_late(account, request_id, prompt, completion)
    assert done is not None
    assert (done.charged_tokens, done.balance_tokens) == (150 + more, 850 - more)
    [event] = meter.books.events(account)
    assert event["outcome"] == "completed"
    assert event["charged_tokens"] == 150 + more
    assert (event["prompt_tokens"], event["completion_tokens"]) == (prompt, completion)
    # Repeating it changes nothing.
    assert meter.settle_late(account, request_id, prompt, completion) == done
    assert meter.figures(account) == (850 - more, 0, 0, 0, 0)


def test_late_after_a_recovery_that_charged_nothing(meter: Meter, account: Account) -> None:
    request_id = recovered(meter, account, 0, 0)
    done = meter.settle_late(account, request_id, 100, 20)
    assert done is not None
    assert done.charged_tokens == 120
    [event] = meter.books.events(account)
    assert event["charged_tokens"] == 120
    assert meter.settle_late(account, request_id, 100, 20) == done
    assert meter.figures(account) == (880, 0, 0, 0, 0)


def test_late_after_recovery_beyond_the_balance(meter: Meter, account: Account) -> None:
    request_id = recovered(meter, account, 100, 50)
    meter.place(account, 800)
    done = meter.settle_late(account, request_id, 100, 150)
    assert done is not None
    assert (done.charged_tokens, done.uncharged_tokens, done.balance_tokens) == (200, 50, 0)
    assert meter.figures(account) == (800, 0, 800, 0, 1)


def test_late_for_a_hold_that_was_lost(meter: Meter, trial_account: Account) -> None:
    hold = meter.place(trial_account, 100)
    # As if PostgreSQL had crashed before the hold reached the disk.
    meter.books.rows("DELETE FROM holds WHERE request_id = :id", id=hold.request_id)
    meter.books.rows(
        "UPDATE balances SET held_trial = 0, open_holds = 0 WHERE user_id = :id",
        id=trial_account.user_id,
    )
    assert meter.settle(trial_account, hold.request_id, 300, 50) is None
    done = meter.settle_late(trial_account, hold.request_id, 300, 50)
    assert done is not None
    assert (done.charged_tokens, done.uncharged_tokens, done.balance_tokens) == (350, 0, 950)
    [event] = meter.books.events(trial_account)
    assert (event["charged_trial"], event["charged_paid"]) == (300, 50)
    assert meter.settle_late(trial_account, hold.request_id, 300, 50) == done


def test_a_lost_hold_is_charged_at_most_what_is_available(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 100)
    meter.books.rows("DELETE FROM holds WHERE request_id = :id", id=hold.request_id)
    meter.books.rows(
        "UPDATE balances SET held_paid = 0, open_holds = 0 WHERE user_id = :id",
        id=account.user_id,
    )
    other = meter.place(account, 970)
    done = meter.settle_late(account, hold.request_id, 80)
    assert done is not None
    assert (done.charged_tokens, done.uncharged_tokens, done.balance_tokens) == (30, 50, 0)
    assert meter.settle(account, other.request_id, 970) is not None
    assert meter.figures(account) == (0, 0, 0, 0, 0)


def test_late_for_an_account_that_was_removed(meter: Meter, account: Account) -> None:
    request_id = recovered(meter, account, 100, 50)
    with meter.books.app.app_context(), transaction():
        account_deletion.remove(account.user_id)
    assert meter.settle_late(account, request_id, 200, 50) is None
    assert meter.books.events(account) == []
