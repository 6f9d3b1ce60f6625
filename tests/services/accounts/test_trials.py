from datetime import UTC, datetime, timedelta

from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.extensions import db
from promptly.models import Balance, User
from promptly.models.states import HoldState
from promptly.services import account_deletion
from promptly.services.accounts import accounts, trials
from promptly.services.ledger import ledger, verification
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.races import together
from tests.support.servers import make_settings

PAST = datetime.now(UTC) - timedelta(minutes=1)


def test_a_mailbox_gets_one_trial(session: Session) -> None:
    settings = make_settings()
    first = accounts.create("ada@example.com", settings)
    again = accounts.create("Ada+two@example.com", settings)
    assert session.get_one(Balance, first.id).trial_tokens == 100_000
    assert session.get_one(Balance, again.id).trial_tokens == 0
    account_deletion.remove(first.id)
    reborn = accounts.create("ada@example.com", settings)
    assert session.get_one(Balance, reborn.id).trial_tokens == 0
    assert verification.verify() == []


def test_the_trial_follows_the_settings(session: Session) -> None:
    user = accounts.create("a@example.com", make_settings(trial_tokens=5, trial_expiry_days=2))
    balance = session.get_one(Balance, user.id)
    assert balance.trial_tokens == 5 and balance.trial_expires_at is not None
    left = balance.trial_expires_at - datetime.now(UTC)
    assert timedelta(days=1, hours=23) < left <= timedelta(days=2)


def test_an_account_made_without_trials_uses_up_its_mailbox(session: Session) -> None:
    none = accounts.create("b@example.com", make_settings(trial_tokens=0))
    assert session.get_one(Balance, none.id).trial_tokens == 0
    for spelling in ("b+two@example.com", "B@example.com"):
        later = accounts.create(spelling, make_settings())
        assert session.get_one(Balance, later.id).trial_tokens == 0


def test_expired_trials_lapse_once(session: Session) -> None:
    expired = factories.user(paid_tokens=7, trial_tokens=100, trial_expires_at=PAST)
    running = factories.user(trial_tokens=100)
    assert trials.count_expired() == (1, 100)
    assert trials.expire() == 1
    assert trials.expire() == 0
    session.expire_all()
    balance = session.get_one(Balance, expired.id)
    assert (balance.paid_tokens, balance.trial_tokens) == (7, 0)
    assert session.get_one(Balance, running.id).trial_tokens == 100
    assert ledger.entries(expired.id)[0].trial_delta == -100
    assert verification.verify() == []
    assert [user.id for user, _ in trials.list_running()] == [running.id]


def test_the_held_part_lapses_when_it_is_freed(session: Session) -> None:
    user = factories.user(trial_tokens=100, trial_expires_at=PAST)
    hold = factories.hold(user.id, held_trial=40)
    assert trials.expire() == 1
    session.expire_all()
    balance = session.get_one(Balance, user.id)
    assert (balance.trial_tokens, balance.held_trial) == (40, 40)
    hold.state = HoldState.SETTLED
    balance.held_trial = 0
    balance.open_holds = 0
    session.flush()
    assert trials.expire() == 1
    session.expire_all()
    assert session.get_one(Balance, user.id).trial_tokens == 0
    assert verification.verify() == []


def test_spellings_that_race_get_one_trial(app_factory: AppFactory) -> None:
    app = app_factory()
    settings = app.extensions["settings"]
    spellings = ["race@example.com", "Race@example.com", "race+1@example.com", "RACE+2@example.com"]

    def register(email: str) -> None:
        with transaction():
            accounts.register(email, settings)

    together(app, *[lambda email=email: register(email) for email in spellings])
    with app.app_context():
        assert db.session.query(User).count() == 4
        granted = [row.trial_tokens for row in db.session.query(Balance)]
        assert sorted(granted) == [0, 0, 0, 100_000]
        assert verification.verify() == []


def test_parallel_expiry_takes_each_trial_once(app: Flask) -> None:
    with app.app_context(), transaction():
        for _ in range(30):
            factories.user(trial_tokens=10, trial_expires_at=PAST)

    def expire() -> int:
        with transaction():
            return trials.expire(batch=4)

    taken = sum(together(app, *[expire] * 4))
    with app.app_context():
        while True:
            with transaction():
                count = trials.expire(batch=4)
            taken += count
            if count == 0:
                break
        assert taken == 30
        lapses = text("SELECT count(*) FROM ledger_entries WHERE kind = 'trial_lapse'")
        assert db.session.scalar(lapses) == 30
        assert verification.verify() == []
