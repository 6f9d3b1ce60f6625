from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.extensions import db
from promptly.models import ApiKey, Balance, User
from promptly.services import account_deletion, audit
from promptly.services.accounts import accounts as registered
from promptly.services.accounts import keys, trials
from promptly.services.audit import Operator
from promptly.services.imports import accounts
from promptly.services.imports.outcome import Outcome, Reason, State
from promptly.services.imports.source import SourceAccount
from promptly.services.ledger import ledger, verification
from promptly.services.payments import lots
from promptly.services.usage import account_statements
from promptly.settings import current_settings
from promptly.transactions import transaction
from tests.support import factories, model_gateway
from tests.support.races import together
from tests.support.servers import make_settings

SETTINGS = make_settings()


def bring(*found: SourceAccount) -> list[Outcome]:
    """Import accounts in one run."""
    run = accounts.begin(SETTINGS, Operator("test"))
    outcomes = [accounts.bring_over(one, run) for one in found]
    db.session.expire_all()
    return outcomes


def user_of(account: SourceAccount) -> User:
    return db.session.query(User).filter_by(email=account.email).one()


def balance_of(account: SourceAccount) -> Balance:
    return db.session.get_one(Balance, user_of(account).id)


def reasons(outcome: Outcome) -> list[Reason]:
    return [reason for reason, _ in outcome.listed]


def test_an_account_with_its_key_and_balance(session: Session) -> None:
    old = model_gateway.account(balance_tokens=700)
    [outcome] = bring(old)
    assert (outcome.state, outcome.keys, outcome.listed) == (State.IMPORTED, 1, [])
    user, balance = user_of(old), balance_of(old)
    assert (user.created_at, user.key_prefix) == (old.created_at, old.key_prefix)
    assert (balance.paid_tokens, balance.trial_tokens) == (700, 0)
    [entry] = ledger.entries(user.id)
    assert (entry.kind, entry.paid_delta, entry.reference) == ("import", 700, "model-gateway:1/1")
    [act] = audit.entries(action="account.import").rows
    assert (act.user_id, act.subject) == (user.id, "model-gateway:1")
    assert session.scalar(text("SELECT count(*) FROM outbox")) == 0
    assert verification.verify() == []


def test_grants_that_run_become_one(session: Session) -> None:
    running = [model_gateway.trial(100, days=2), model_gateway.trial(50, days=9)]
    old = model_gateway.account(trials=[*running, model_gateway.trial(1000, days=-1)])
    bring(old)
    balance = balance_of(old)
    assert balance.trial_tokens == 150
    assert balance.trial_expires_at == running[1].expires_at
    assert verification.verify() == []


def test_nobody_gets_a_second_trial(session: Session) -> None:
    old = model_gateway.account(email="Ada@example.com")
    bring(old)
    again = registered.create("ada+two@example.com", SETTINGS)
    assert session.get_one(Balance, again.id).trial_tokens == 0


def test_negative_balances_are_listed(session: Session) -> None:
    old = model_gateway.account(balance_tokens=-5)
    [outcome] = bring(old)
    assert (outcome.state, reasons(outcome)) == (State.IMPORTED, [Reason.NEGATIVE_BALANCE])
    assert balance_of(old).paid_tokens == 0


def test_addresses_that_fold_to_one_are_listed_and_not_merged(session: Session) -> None:
    first = model_gateway.account(1, email="ada@example.com", balance_tokens=1)
    second = model_gateway.account(2, email="Ada+2@example.com", balance_tokens=2)
    other_case = model_gateway.account(3, email="ada@EXAMPLE.com", balance_tokens=4)
    outcomes = bring(first, second, other_case)
    assert reasons(outcomes[0]) == []
    assert reasons(outcomes[1]) == [Reason.SAME_MAILBOX]
    # promptly stores domains in lower case, so this address is the first one's.
    assert reasons(outcomes[2]) == [Reason.SAME_MAILBOX, Reason.ADDRESS_TAKEN]
    assert [balance_of(one).paid_tokens for one in (first, second)] == [1, 2]


def test_accounts_that_exist_here_are_left_alone(session: Session) -> None:
    here = factories.user("old1@example.com", paid_tokens=5)
    [taken, invalid] = bring(
        model_gateway.account(1, balance_tokens=100), model_gateway.account(2, email="nonsense")
    )
    assert (taken.state, reasons(taken)) == (State.LEFT_OUT, [Reason.ADDRESS_TAKEN])
    assert (invalid.state, reasons(invalid)) == (State.LEFT_OUT, [Reason.INVALID_ADDRESS])
    assert session.get_one(Balance, here.id).paid_tokens == 5
    assert keys.list_active(here.id) == []


@pytest.mark.parametrize(
    "values",
    [
        {"key_hash": None},
        {"key_prefix": "sk-short"},
        {"key_hash": "5f4dcc3b5aa765d61d8327deb882cf99"},
        # It would take minutes to check.
        {"key_hash": model_gateway.hashed("x").replace("$04$", "$20$")},
    ],
)
def test_keys_that_cannot_be_checked_are_listed(session: Session, values: dict[str, Any]) -> None:
    old = replace(model_gateway.account(balance_tokens=1), **values)
    [outcome] = bring(old)
    assert (outcome.state, reasons(outcome)) == (State.IMPORTED, [Reason.KEY_NOT_USABLE])
    assert keys.list_active(user_of(old).id) == []


def test_a_second_import_changes_nothing(session: Session) -> None:
    old = model_gateway.account(
        balance_tokens=900,
        trials=[model_gateway.trial(100)],
        purchases=[model_gateway.purchase()],
        usage=[model_gateway.usage(10)],
    )
    bring(old)
    user_id = user_of(old).id
    factories.usage_event(user_id, charged_paid=800, charged_trial=60)
    ledger.adjust(user_id, 5000, actor="test")
    keys.revoke_all(user_id)
    before = len(ledger.entries(user_id))
    for _ in range(2):
        [outcome] = bring(old)
        assert (outcome.state, outcome.listed) == (State.UNCHANGED, [])
    assert (balance_of(old).paid_tokens, balance_of(old).trial_tokens) == (5100, 40)
    assert keys.list_active(user_id) == []
    assert len(ledger.entries(user_id)) == before
    assert len(audit.entries(action="account.import").rows) == 1
    assert verification.verify() == []


def test_a_further_import_brings_what_has_changed(session: Session) -> None:
    grant = model_gateway.trial(100)
    old = model_gateway.account(balance_tokens=900, trials=[grant])
    bring(old)
    user_id = user_of(old).id
    factories.usage_event(user_id, charged_paid=300)
    # There, 250 were used, 1000 bought, and 40 of the trial used.
    later = replace(
        old,
        balance_tokens=1650,
        trials=[replace(grant, tokens=60)],
        purchases=[model_gateway.purchase()],
    )
    [outcome] = bring(later)
    assert (outcome.state, outcome.paid_delta, outcome.trial_delta) == (State.UPDATED, 750, -40)
    assert (balance_of(old).paid_tokens, balance_of(old).trial_tokens) == (1350, 60)
    assert [lot.unspent_tokens for lot in lots.of_account(user_id)] == [350, 1000]
    [outcome] = bring(later)
    assert outcome.state is State.UNCHANGED
    assert verification.verify() == []


def test_tokens_that_were_spent_twice_are_listed(session: Session) -> None:
    old = model_gateway.account(balance_tokens=900)
    bring(old)
    user_id = user_of(old).id
    factories.usage_event(user_id, charged_paid=800)
    [outcome] = bring(replace(old, balance_tokens=0))
    assert reasons(outcome) == [Reason.SPENT_HERE]
    assert "800" in outcome.listed[0][1]
    assert balance_of(old).paid_tokens == 0
    [outcome] = bring(replace(old, balance_tokens=0))
    assert (outcome.state, outcome.listed) == (State.UNCHANGED, [])
    assert verification.verify() == []


def test_an_expired_trial_stays_expired(session: Session) -> None:
    grant = model_gateway.trial(100, days=1)
    old = model_gateway.account(trials=[grant])
    bring(old)
    user_id = user_of(old).id
    past = datetime.now(UTC) - timedelta(minutes=1)
    session.execute(text("UPDATE balances SET trial_expires_at = :past"), {"past": past})
    assert trials.expire() == 1
    [outcome] = bring(old)
    assert outcome.state is State.UNCHANGED
    assert balance_of(old).trial_tokens == 0
    assert [entry.kind for entry in ledger.entries(user_id)] == ["trial_lapse", "import"]


def test_a_key_that_was_replaced_there_is_replaced_here(session: Session) -> None:
    old = model_gateway.account()
    bring(old)
    user_id = user_of(old).id
    renewed = model_gateway.account()
    [outcome] = bring(renewed)
    assert (outcome.state, outcome.keys) == (State.UPDATED, 1)
    [key] = keys.list_active(user_id)
    assert key.prefix == renewed.key_prefix == user_of(old).key_prefix
    # After a reissue here, no key from there comes back.
    registered.reissue(user_of(old))
    [outcome] = bring(model_gateway.account())
    assert (outcome.state, outcome.keys) == (State.UNCHANGED, 0)
    assert keys.list_active(user_id) == []


def test_deleted_accounts_do_not_come_back(session: Session) -> None:
    old = model_gateway.account(balance_tokens=100, usage=[model_gateway.usage(10)])
    bring(old)
    user_id = user_of(old).id
    account_deletion.close(user_id, current_settings())
    [closed] = bring(old)
    account_deletion.remove(user_id)
    [removed] = bring(old)
    for outcome in (closed, removed):
        assert (outcome.state, reasons(outcome)) == (State.LEFT_OUT, [Reason.DELETED_HERE])
    assert session.query(User).count() == 0
    assert session.query(ApiKey).count() == 0


def test_another_database_with_the_same_numbers_touches_nothing(session: Session) -> None:
    old = model_gateway.account(1, balance_tokens=100)
    bring(old)
    [outcome] = bring(model_gateway.account(1, email="else@example.com", balance_tokens=900))
    assert (outcome.state, reasons(outcome)) == (State.LEFT_OUT, [Reason.OTHER_SOURCE])
    assert balance_of(old).paid_tokens == 100
    assert session.query(User).count() == 1


def test_the_statement_adds_up(app: Flask) -> None:
    old = model_gateway.account(balance_tokens=300, purchases=[model_gateway.purchase(tokens=1000)])
    with app.app_context():
        with transaction():
            bring(old)
        lines = list(account_statements.of(user_of(old).id).lines())
    assert [(line.kind, line.paid_delta) for line in lines] == [
        ("opening", 0), ("purchase", 1000), ("import", -700),
    ]  # fmt: skip
    assert lines[-1].balance_tokens == 300


def test_two_imports_at_once(app: Flask) -> None:
    old = model_gateway.account(
        balance_tokens=900, purchases=[model_gateway.purchase()], usage=[model_gateway.usage(10)]
    )

    def bring_one() -> State:
        with transaction():
            [outcome] = bring(old)
        return outcome.state

    states = together(app, *[bring_one] * 4)
    assert sorted(states) == [State.IMPORTED, *[State.UNCHANGED] * 3]
    with app.app_context():
        assert balance_of(old).paid_tokens == 900
        assert db.session.scalar(text("SELECT sum(requests) FROM usage_rollups")) == 1
        assert verification.verify() == []
