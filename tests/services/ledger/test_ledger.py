from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import Balance
from promptly.services.ledger import ledger, verification
from promptly.transactions import transaction
from tests.support import factories
from tests.support.races import together


def test_an_adjustment_moves_the_balance_and_leaves_an_entry(session: Session) -> None:
    user = factories.user()
    change = ledger.adjust(user.id, 1000, actor="test")
    assert (change.applied_delta, change.paid_tokens, change.trial_tokens) == (1000, 1000, 0)
    change = ledger.adjust(user.id, -300, actor="test")
    assert (change.applied_delta, change.paid_tokens) == (-300, 700)
    newest, oldest = ledger.entries(user.id)
    assert (newest.paid_delta, newest.kind, newest.actor) == (-300, "adjustment", "test")
    assert oldest.paid_delta == 1000
    assert verification.verify() == []


def test_a_deduction_stops_at_what_is_held(session: Session) -> None:
    user = factories.user(paid_tokens=100, trial_tokens=50)
    factories.hold(user.id, held_paid=30)
    change = ledger.adjust(user.id, -1000, actor="test")
    assert (change.applied_delta, change.paid_tokens, change.trial_tokens) == (-70, 30, 50)
    assert ledger.adjust(user.id, -1, actor="test").applied_delta == 0
    assert len(ledger.entries(user.id)) == 2  # the factory's entry and one deduction
    assert verification.verify() == []


def test_a_reference_counts_once(session: Session) -> None:
    user = factories.user()
    first = ledger.adjust(user.id, 10, actor="test", kind="purchase", reference="order 1")
    again = ledger.adjust(user.id, 10, actor="test", kind="purchase", reference="order 1")
    other = ledger.adjust(user.id, 10, actor="test", kind="refund", reference="order 1")
    assert [first.applied_delta, again.applied_delta, other.applied_delta] == [10, 0, 10]
    assert other.paid_tokens == 20


def test_grants_add_up_and_end_with_the_latest(session: Session) -> None:
    user = factories.user()
    first = ledger.grant(user.id, 100, 30, actor="test")
    second = ledger.grant(user.id, 50, 7, actor="test")
    assert (second.trial_tokens, second.trial_expires_at) == (150, first.trial_expires_at)
    assert second.trial_expires_at is not None
    assert second.trial_expires_at > datetime.now(UTC) + timedelta(days=29)


def test_a_grant_does_not_revive_an_expired_trial(session: Session) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    user = factories.user(trial_tokens=100, trial_expires_at=past)
    factories.hold(user.id, held_trial=40)
    change = ledger.grant(user.id, 10, 5, actor="test")
    assert change.trial_tokens == 50  # the held part and the grant
    assert [entry.kind for entry in ledger.entries(user.id)][:2] == ["grant", "trial_lapse"]
    assert verification.verify() == []


def test_no_account(session: Session) -> None:
    with pytest.raises(NotFound):
        ledger.adjust(1, 1, actor="test")
    with pytest.raises(NotFound):
        ledger.grant(1, 1, 1, actor="test")


def test_concurrent_changes_lose_nothing(app: Flask) -> None:
    with app.app_context(), transaction():
        user_id = factories.user(paid_tokens=1000).id

    def change(delta: int) -> int:
        applied = 0
        for _ in range(20):
            with transaction():
                applied += ledger.adjust(user_id, delta, actor="test").applied_delta
        return applied

    def by_hand() -> int:
        for _ in range(20):
            with transaction() as session:
                session.execute(
                    text("""
                        UPDATE token_purchases SET paid_tokens = paid_tokens + 5
                        WHERE user_id = :id
                    """),
                    {"id": user_id},
                )
        return 100

    deltas = (7, -11, 3, -200)
    applied = together(app, by_hand, *[partial(change, delta) for delta in deltas])
    with app.app_context():
        balance = db.session.get_one(Balance, user_id)
        assert balance.paid_tokens == 1000 + sum(applied) >= 0
        assert verification.verify() == []
        kinds = {entry.kind for entry in ledger.entries(user_id, 500)}
        assert kinds == {"adjustment", "operator_sql"}


def test_one_reference_from_many_threads_counts_once(app: Flask) -> None:
    with app.app_context(), transaction():
        user_id = factories.user().id

    def credit() -> int:
        with transaction():
            return ledger.adjust(
                user_id, 100, actor="test", kind="purchase", reference="pay_1"
            ).applied_delta

    assert sorted(together(app, *[credit] * 6)) == [0, 0, 0, 0, 0, 100]
    with app.app_context():
        assert verification.verify() == []
