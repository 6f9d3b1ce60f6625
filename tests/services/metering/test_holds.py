"""Holds: placed, adjusted, checkpointed and settled."""

import uuid

import pytest

from promptly.errors import InsufficientQuota, RateLimited, TokensReserved
from promptly.request_ids import new_request_id
from promptly.services import account_deletion, metering
from promptly.services.accounts import account_limits
from promptly.services.audit import Operator
from promptly.services.metering.placing import SILENT_SECONDS
from promptly.settings import current_settings
from promptly.transactions import transaction
from tests.services.metering.meter import TOP_UP_URL, Meter
from tests.support.books import Account


def test_a_hold_takes_the_wanted_tokens(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 400)
    assert (hold.held_tokens, hold.has_all) == (400, False)
    assert meter.figures(account) == (1000, 0, 400, 0, 1)


def test_trial_is_held_before_paid(meter: Meter, trial_account: Account) -> None:
    meter.place(trial_account, 100)
    assert meter.figures(trial_account) == (1000, 300, 0, 100, 1)
    meter.place(trial_account, 500)
    assert meter.figures(trial_account) == (1000, 300, 300, 300, 2)


def test_an_expired_trial_is_not_available(meter: Meter, trial_account: Account) -> None:
    meter.end_trial(trial_account)
    hold = meter.place(trial_account, 2000, minimum=1)
    assert (hold.held_tokens, hold.has_all) == (1000, True)
    assert meter.figures(trial_account) == (1000, 300, 1000, 0, 1)


def test_less_than_wanted_is_held_down_to_the_minimum(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 5000, minimum=1000)
    assert (hold.held_tokens, hold.has_all) == (1000, True)
    poor = meter.books.account(paid_tokens=999)
    with pytest.raises(InsufficientQuota) as refusal:
        meter.place(poor, 5000, minimum=1000)
    assert "1000 tokens, 999 are left" in refusal.value.message
    assert TOP_UP_URL in refusal.value.message
    assert meter.figures(poor) == (999, 0, 0, 0, 0)


def test_a_hold_of_exactly_everything_says_so(meter: Meter, account: Account) -> None:
    assert meter.place(account, 1000).has_all is True


def test_no_balance_at_all(meter: Meter, account: Account) -> None:
    stranger = Account(2**40, "none", 1, "")
    with pytest.raises(InsufficientQuota, match="no tokens left"):
        meter.place(stranger, 1)


def test_what_others_hold_is_reserved_not_missing(meter: Meter, account: Account) -> None:
    first = meter.place(account, 900)
    with pytest.raises(TokensReserved) as refusal:
        meter.place(account, 200)
    assert refusal.value.retry_after_seconds
    assert "900 tokens" in refusal.value.message
    meter.settle(account, first.request_id, 850)
    with pytest.raises(InsufficientQuota):
        meter.place(account, 200)


def test_as_many_requests_as_allowed(meter: Meter, account: Account) -> None:
    holds = [meter.place(account, 10, max_open_holds=3) for _ in range(3)]
    with pytest.raises(RateLimited) as refusal:
        meter.place(account, 10, max_open_holds=3)
    assert type(refusal.value) is RateLimited
    assert refusal.value.retry_after_seconds
    meter.settle(account, holds[0].request_id, 1)
    assert meter.place(account, 10, max_open_holds=3).held_tokens == 10


def test_the_limit_of_requests_is_named_before_the_tokens(meter: Meter, account: Account) -> None:
    meter.place(account, 1000, max_open_holds=1)
    with pytest.raises(RateLimited) as refusal:
        meter.place(account, 1, max_open_holds=1)
    assert refusal.value.code == "rate_limit_exceeded"


def test_silent_holds_do_not_count_against_the_limit(meter: Meter, account: Account) -> None:
    dead, alive = (meter.place(account, 10, max_open_holds=2) for _ in range(2))
    meter.silence(dead.request_id, SILENT_SECONDS - 3)
    with pytest.raises(RateLimited):
        meter.place(account, 10, max_open_holds=2)
    meter.silence(dead.request_id, SILENT_SECONDS + 1)
    meter.place(account, 10, max_open_holds=2)
    with pytest.raises(RateLimited):
        meter.place(account, 10, max_open_holds=2)
    meter.settle(account, alive.request_id, 0)
    meter.place(account, 10, max_open_holds=2)


def test_a_hold_grows_and_shrinks(meter: Meter, trial_account: Account) -> None:
    hold = meter.place(trial_account, 200)
    assert meter.adjust(hold.request_id, 500) == 500
    assert meter.figures(trial_account) == (1000, 300, 200, 300, 1)
    # Paid tokens are freed before trial tokens.
    assert meter.adjust(hold.request_id, 350) == 350
    assert meter.figures(trial_account) == (1000, 300, 50, 300, 1)
    assert meter.adjust(hold.request_id, 250) == 250
    assert meter.figures(trial_account) == (1000, 300, 0, 250, 1)
    assert meter.adjust(hold.request_id, 250) == 250
    assert meter.adjust(hold.request_id, 0) == 0
    assert meter.figures(trial_account) == (1000, 300, 0, 0, 1)


def test_a_hold_grows_as_far_as_the_balance_reaches(meter: Meter, account: Account) -> None:
    meter.place(account, 300)
    hold = meter.place(account, 100)
    assert meter.adjust(hold.request_id, 5000) == 700
    assert meter.figures(account) == (1000, 0, 1000, 0, 2)
    assert meter.adjust(hold.request_id, 5000) == 700


def test_a_hold_does_not_grow_into_an_expired_trial(meter: Meter, trial_account: Account) -> None:
    hold = meter.place(trial_account, 100)
    meter.end_trial(trial_account)
    assert meter.adjust(hold.request_id, 2000) == 1100
    assert meter.figures(trial_account) == (1000, 300, 1000, 100, 1)


def test_a_hold_that_is_not_open_cannot_be_moved(meter: Meter, account: Account) -> None:
    hold = meter.place(account, 100)
    meter.settle(account, hold.request_id, 10)
    assert meter.adjust(hold.request_id, 200) is None
    assert meter.adjust(new_request_id(), 200) is None
    assert meter.figures(account) == (990, 0, 0, 0, 0)


def test_checkpoints_are_noted_in_one_batch(meter: Meter, account: Account) -> None:
    holds = [meter.place(account, 10) for _ in range(3)]
    for hold in holds:
        meter.silence(hold.request_id, 100)
    meter.settle(account, holds[2].request_id, 7)
    counts = [(hold.request_id, 100 + n, 10 * n) for n, hold in enumerate(holds)]
    unknown: uuid.UUID = new_request_id()
    still_open = meter.checkpoint(*counts, (unknown, 1, 1))
    assert still_open == {holds[0].request_id: None, holds[1].request_id: None}
    for hold, (_, prompt, completion) in zip(holds[:2], counts, strict=False):
        row = meter.hold_row(hold.request_id)
        assert row is not None
        assert (row["prompt_tokens"], row["completion_tokens"]) == (prompt, completion)
        assert not meter.recover(hold.request_id)
    assert meter.hold_row(holds[2].request_id) is None
    assert [event["prompt_tokens"] for event in meter.books.events(account)] == [7]


def test_a_checkpoint_reports_accounts_that_are_being_deleted(
    meter: Meter, account: Account
) -> None:
    closed = meter.books.account(paid_tokens=100)
    kept, ending = meter.place(account, 10), meter.place(closed, 10)
    with meter.books.app.app_context(), transaction():
        account_deletion.close(closed.user_id, current_settings())
    counts = [(hold.request_id, 1, 0) for hold in (kept, ending)]
    assert meter.checkpoint(*counts) == {
        kept.request_id: None,
        ending.request_id: "account_deleted",
    }


def test_a_checkpoint_reports_suspended_accounts(meter: Meter, account: Account) -> None:
    suspended = meter.books.account(paid_tokens=100)
    kept, ending = meter.place(account, 10), meter.place(suspended, 10)
    cli = Operator("cli:test")
    with meter.books.app.app_context(), transaction():
        account_limits.suspend(suspended.user_id, operator=cli)
    counts = [(hold.request_id, 1, 0) for hold in (kept, ending)]
    reported = {kept.request_id: None, ending.request_id: "account_suspended"}
    assert meter.checkpoint(*counts) == reported
    with meter.books.app.app_context(), transaction():
        account_limits.resume(suspended.user_id, operator=cli)
    assert set(meter.checkpoint(*counts).values()) == {None}


def test_a_hold_is_seen_by_the_account(meter: Meter, trial_account: Account) -> None:
    meter.place(trial_account, 400)
    balance = meter.books.balance(trial_account)
    assert (balance["available_tokens"], balance["reserved_tokens"]) == (900, 400)


def test_only_an_account_without_a_token_to_spend_is_refused(
    meter: Meter, trial_account: Account
) -> None:
    def require() -> None:
        metering.require_tokens(meter.database, trial_account.user_id, 1, TOP_UP_URL)

    hold = meter.place(trial_account, 1299)
    require()
    meter.place(trial_account, 1)
    with pytest.raises(TokensReserved, match="1300 tokens"):
        require()
    meter.settle(trial_account, hold.request_id, 1000)
    require()
    poor = meter.books.account(paid_tokens=0)
    with pytest.raises(InsufficientQuota, match=TOP_UP_URL):
        metering.require_tokens(meter.database, poor.user_id, 1, TOP_UP_URL)
