"""A hold that authenticates its request's key: placed in the usual case, otherwise nothing is."""

import threading
import uuid
from dataclasses import replace

import pytest

from promptly.errors import ServiceUnavailable
from promptly.extensions import db
from promptly.models import ApiKey
from promptly.prices import DEFAULT
from promptly.request_ids import new_request_id
from promptly.services import metering
from promptly.services.accounts.authentication import Caller, authenticate
from promptly.services.ledger import ledger
from promptly.services.metering.placing import Hold
from promptly.transactions import transaction
from tests.services.metering import caps
from tests.services.metering.meter import Meter
from tests.support.books import Account
from tests.support.races import together


def unproven(meter: Meter, account: Account) -> Caller:
    """Return the account's caller as remembered from an earlier request."""
    with meter.books.app.app_context():
        key_hash = db.session.get_one(ApiKey, account.key_id).key_hash
    caller = authenticate(meter.database, key_hash)
    assert caller is not None
    caller.unproven_key_hash = key_hash
    return caller


def admit(
    meter: Meter,
    caller: Caller,
    tokens: int = 100,
    most: int = 8,
    request_id: uuid.UUID | None = None,
) -> Hold | None:
    return metering.admit_hold(
        meter.database,
        caller,
        request_id=request_id or new_request_id(),
        endpoint="chat.completions",
        model="test-model",
        tokens=tokens,
        max_open_holds=most,
        price=DEFAULT,
    )


@pytest.mark.parametrize("tokens", [100, 1000])
def test_an_admitted_request_is_as_any_other(meter: Meter, account: Account, tokens: int) -> None:
    caller = unproven(meter, account)
    hold = admit(meter, caller, tokens)
    assert hold is not None
    assert (hold.held_tokens, hold.has_all) == (tokens, tokens == 1000)
    assert (caller.unproven_key_hash, caller.available_tokens) == (None, 1000)
    assert meter.figures(account) == (1000, 0, tokens, 0, 1)
    assert meter.adjust(hold.request_id, 60) == 60
    assert meter.settle(account, hold.request_id, 20, 30) == metering.Charge(50, 0, 950)
    [event] = meter.books.events(account)
    assert (event["key_id"], event["model"]) == (account.key_id, "test-model")


def test_a_lost_one_is_placed_again(meter: Meter, account: Account) -> None:
    hold = admit(meter, unproven(meter, account))
    assert hold is not None
    meter.books.rows("DELETE FROM holds WHERE request_id = :id", id=hold.request_id)
    meter.books.rows(
        "UPDATE balances SET held_paid = 0, open_holds = 0 WHERE user_id = :id", id=account.user_id
    )
    assert metering.place_lost_hold(meter.database, hold, 100) == (100, False)


KEY = "UPDATE api_keys SET {} WHERE id = :id"
USER = "UPDATE users SET {} WHERE id = :id"


@pytest.mark.parametrize(
    "change",
    [
        KEY.format("revoked_at = now()"),
        KEY.format("expires_at = now() - interval '1 second'"),
        KEY.format("allowed_models = '{test-model}'"),
        KEY.format("allowed_addresses = '{127.0.0.1/32}'"),
        KEY.format("batch = true"),
        KEY.format("key_hash = decode('00', 'hex')"),
        USER.format("suspended_at = now()"),
        USER.format("concurrent_requests = 1"),
    ],
)
def test_nothing_is_held_once_key_or_account_have_changed(meter: Meter, change: str) -> None:
    account = meter.books.account(paid_tokens=1000)
    caller = unproven(meter, account)
    other = meter.place(account, 10)
    meter.books.rows(change, id=account.key_id if "api_keys" in change else account.user_id)
    assert admit(meter, caller) is None
    assert caller.unproven_key_hash is not None
    assert meter.figures(account) == (1000, 0, 10, 0, 1)
    assert meter.settle(account, other.request_id, 0) is not None
    meter.books.rows(KEY.format("key_hash = sha256(id::text::bytea)"), id=account.key_id)


@pytest.mark.parametrize("tokens", [991, 2000])
def test_nothing_is_held_beyond_the_balance(meter: Meter, account: Account, tokens: int) -> None:
    caller = unproven(meter, account)
    other = meter.place(account, 10)
    assert admit(meter, caller, tokens) is None
    assert meter.figures(account) == (1000, 0, 10, 0, 1)
    meter.settle(account, other.request_id, 0)


def test_a_key_with_a_cap_is_held_step_by_step(meter: Meter, account: Account) -> None:
    caps.set_cap(meter, account, 500)
    assert admit(meter, unproven(meter, account)) is None
    assert meter.figures(account) == (1000, 0, 0, 0, 0)


def test_a_trial_is_held_before_paid_tokens_unless_it_covers_a_part(
    meter: Meter, trial_account: Account
) -> None:
    caller = unproven(meter, trial_account)
    hold = admit(meter, replace(caller), 299)
    assert hold is not None and not hold.has_all
    assert meter.figures(trial_account) == (1000, 300, 0, 299, 1)
    assert admit(meter, caller, 2) is None
    assert meter.settle(trial_account, hold.request_id, 280) == metering.Charge(280, 0, 1020)
    for tokens in (20, 21):
        assert admit(meter, caller, tokens) is None
    meter.end_trial(trial_account)
    assert admit(meter, caller, 1000) is not None
    assert caller.available_tokens == 1000
    assert meter.figures(trial_account) == (1000, 20, 1000, 0, 1)


def test_an_account_that_begins_to_pay_is_looked_up_anew(meter: Meter) -> None:
    account = meter.books.account(paid_tokens=0, trial_tokens=300)
    caller = unproven(meter, account)
    assert not caller.pays
    assert admit(meter, replace(caller)) is not None
    with meter.books.app.app_context(), transaction():
        ledger.adjust(account.user_id, 50, actor="test")
    assert admit(meter, caller) is None
    assert admit(meter, unproven(meter, account)) is not None


def test_no_more_requests_at_once_than_allowed(meter: Meter, account: Account) -> None:
    callers = [unproven(meter, account) for _ in range(3)]
    holds = [admit(meter, caller, most=2) for caller in callers]
    assert [hold is not None for hold in holds] == [True, True, False]
    meter.books.rows(USER.format("concurrent_requests = 3"), id=account.user_id)
    assert admit(meter, callers[2], most=2) is not None


def test_forty_requests_on_a_balance_for_ten(meter: Meter, account: Account) -> None:
    def request() -> bool:
        return admit(meter, unproven(meter, account), most=1000) is not None

    admitted = together(meter.books.app, *[request] * 40)
    assert sum(admitted) == 10
    assert meter.figures(account) == (1000, 0, 1000, 0, 10)


def test_a_key_is_revoked_while_its_requests_arrive(meter: Meter) -> None:
    account = meter.books.account(paid_tokens=1_000_000)
    caller = unproven(meter, account)
    revoked = threading.Event()

    def revoke() -> int:
        meter.books.rows(KEY.format("revoked_at = now()"), id=account.key_id)
        revoked.set()
        return 0

    def request() -> int:
        late = 0
        for _ in range(20):
            was_revoked = revoked.is_set()
            late += admit(meter, replace(caller), 1, most=1000) is not None and was_revoked
        return late

    assert together(meter.books.app, revoke, *[request] * 4) == [0] * 5
    assert admit(meter, caller, 1, most=1000) is None


def test_a_repeated_request_is_held_once(meter: Meter, account: Account) -> None:
    caller = unproven(meter, account)
    again = replace(caller)
    request_id = new_request_id()
    assert admit(meter, caller, request_id=request_id) is not None
    with pytest.raises(ServiceUnavailable):
        admit(meter, again, request_id=request_id)
    assert meter.figures(account) == (1000, 0, 100, 0, 1)
