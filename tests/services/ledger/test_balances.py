from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from promptly.errors import NotFound
from promptly.services.ledger import balances
from tests.support import factories


def test_the_available_balance(session: Session) -> None:
    user = factories.user(paid_tokens=500, trial_tokens=100)
    factories.hold(user.id, held_trial=100, held_paid=20)
    shown = balances.read(user.id)
    assert shown["available_tokens"] == 480
    assert shown["reserved_tokens"] == 120
    assert (shown["paid_tokens"], shown["trial_tokens"]) == (500, 100)
    assert datetime.fromisoformat(shown["trial_expires_at"]) > datetime.now(UTC)


def test_an_expired_trial_is_not_available_but_its_held_part_is_shown(session: Session) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    user = factories.user(paid_tokens=50, trial_tokens=100, trial_expires_at=past)
    assert balances.read(user.id) == {
        "object": "balance",
        "available_tokens": 50,
        "trial_tokens": 0,
        "trial_expires_at": None,
        "paid_tokens": 50,
        "reserved_tokens": 0,
    }
    factories.hold(user.id, held_trial=30)
    shown = balances.read(user.id)
    assert (shown["available_tokens"], shown["trial_tokens"], shown["reserved_tokens"]) == (
        50,
        30,
        30,
    )


def test_no_account(session: Session) -> None:
    with pytest.raises(NotFound):
        balances.read(1)
