"""Warning mails are sent once, however often and however concurrently the task runs."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import text

from promptly.extensions import db
from promptly.models import Balance, OutboxMail, User
from promptly.services.ledger import ledger
from promptly.services.mail import alerts
from promptly.services.mail.alerts import Choice
from promptly.settings import Settings
from promptly.tasks.notices import send
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.races import run, together

OLD = datetime.now(UTC) - timedelta(days=30)


class Accounts:
    """Accounts of one application: change their balances and read their mails."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.settings: Settings = app.extensions["settings"]

    def add(self, tokens: int = 0, *, trial: int = 0, ends: timedelta | None = None) -> int:
        with self.app.app_context(), transaction():
            expires = None if ends is None else datetime.now(UTC) + ends
            user = factories.user(paid_tokens=tokens, trial_tokens=trial, trial_expires_at=expires)
            user.created_at = OLD
            return user.id

    def move(self, user_id: int, delta: int) -> None:
        with self.app.app_context(), transaction():
            ledger.adjust(user_id, delta, actor="test")

    def choose(self, user_id: int, tokens: int, *, trial_notice: bool = True) -> None:
        with self.app.app_context(), transaction():
            alerts.choose(user_id, Choice(tokens, trial_notice), self.settings)

    def sweep(self) -> None:
        """Run the task twice, then four times concurrently; it must act as if it ran once."""
        run(self.app, send)
        run(self.app, send)
        together(self.app, *[send.run] * 4)

    def mails(self, user_id: int) -> list[tuple[str, int]]:
        """Return the kinds of an account's mails, with the number of tokens they name."""
        with self.app.app_context():
            rows = db.session.query(OutboxMail).filter_by(user_id=user_id).order_by(OutboxMail.id)
            return [(row.kind, row.payload["tokens"]) for row in rows]

    def change(self, user_id: int, work: Callable[[User, Balance], None]) -> None:
        with self.app.app_context(), transaction():
            work(db.session.get_one(User, user_id), db.session.get_one(Balance, user_id))


@pytest.fixture
def accounts(app: Flask) -> Accounts:
    return Accounts(app)


def test_a_low_balance_is_reported_once_per_fall(accounts: Accounts) -> None:
    ada, poor = accounts.add(60_000), accounts.add(49_999)
    accounts.sweep()
    assert accounts.mails(ada) == accounts.mails(poor) == []
    accounts.move(ada, -10_000)
    accounts.sweep()
    assert accounts.mails(ada) == [], "exactly at the threshold is not below it"
    accounts.move(ada, -1)
    accounts.sweep()
    accounts.move(ada, -20_000)
    accounts.sweep()
    assert accounts.mails(ada) == [("low_balance", 49_999)]
    accounts.move(ada, 10_000)
    accounts.sweep()
    accounts.move(ada, -5_000)
    accounts.sweep()
    assert len(accounts.mails(ada)) == 1, "it had not been above again"
    accounts.move(ada, 5_000_000)
    accounts.sweep()
    accounts.move(ada, -5_000_000)
    accounts.sweep()
    assert accounts.mails(ada) == [("low_balance", 49_999), ("low_balance", 34_999)]
    assert accounts.mails(poor) == []


def test_tokens_held_by_running_requests_are_not_gone(accounts: Accounts) -> None:
    ada = accounts.add(60_000)
    accounts.sweep()
    with accounts.app.app_context(), transaction():
        factories.hold(ada, held_paid=59_000)
    accounts.sweep()
    assert accounts.mails(ada) == []


def test_each_account_has_its_own_threshold(accounts: Accounts) -> None:
    high, off = accounts.add(10**6), accounts.add(10**6)
    accounts.choose(high, 900_000)
    accounts.choose(off, 0)
    accounts.sweep()
    for user_id in (high, off):
        accounts.move(user_id, -200_000)
    accounts.sweep()
    assert accounts.mails(high) == [("low_balance", 800_000)]
    # Choosing a threshold above the balance sends no mail by itself.
    accounts.choose(high, 850_000)
    accounts.sweep()
    accounts.move(off, -800_000)
    accounts.sweep()
    assert len(accounts.mails(high)) == 1 and accounts.mails(off) == []
    accounts.choose(off, 50_000)
    accounts.sweep()
    assert accounts.mails(off) == []


def test_saving_the_same_choice_swallows_no_warning(accounts: Accounts) -> None:
    ada = accounts.add(60_000)
    accounts.sweep()
    accounts.move(ada, -20_000)
    accounts.choose(ada, 50_000)
    accounts.sweep()
    assert accounts.mails(ada) == [("low_balance", 40_000)]


def test_an_installation_without_warnings(app_factory: AppFactory) -> None:
    accounts = Accounts(app_factory(low_balance_tokens=0))
    ada, own = accounts.add(60_000), accounts.add(60_000)
    accounts.choose(own, 50_000)
    accounts.sweep()
    for user_id in (ada, own):
        accounts.move(user_id, -60_000)
    accounts.sweep()
    assert accounts.mails(ada) == [] and accounts.mails(own) == [("low_balance", 0)]


def test_the_end_of_a_trial_is_announced_once_a_day_before(accounts: Accounts) -> None:
    soon = accounts.add(trial=100_000, ends=timedelta(hours=23))
    later = accounts.add(trial=100_000, ends=timedelta(hours=25))
    over = accounts.add(trial=100_000, ends=timedelta(hours=-1))
    used_up = accounts.add(trial=0, ends=timedelta(hours=23))
    unwanted = accounts.add(trial=100_000, ends=timedelta(hours=23))
    accounts.choose(unwanted, 50_000, trial_notice=False)
    fresh = accounts.add(trial=100_000, ends=timedelta(hours=23))
    accounts.change(fresh, lambda user, _: setattr(user, "created_at", datetime.now(UTC)))
    accounts.sweep()
    assert accounts.mails(soon) == [("trial_ending", 100_000)]
    for user_id in (later, over, used_up, unwanted, fresh):
        assert accounts.mails(user_id) == []
    # The trial is extended, so the date in the first mail is no longer true.
    with accounts.app.app_context(), transaction() as session:
        moved = "UPDATE balances SET trial_expires_at = trial_expires_at + interval '30 minutes'"
        session.execute(text(moved + " WHERE user_id = :id"), {"id": soon})
    accounts.sweep()
    assert len(accounts.mails(soon)) == 2


def test_no_low_balance_alert_follows_the_trial_alert(
    accounts: Accounts,
) -> None:
    alerted = accounts.add(trial=100_000, ends=timedelta(hours=1))
    paying = accounts.add(10_000, trial=100_000, ends=timedelta(hours=1))
    for user_id in (alerted, paying):
        accounts.choose(user_id, 50_000)
    accounts.sweep()

    def end(user: User, balance: Balance) -> None:
        user.trial_told_of = balance.trial_expires_at = datetime.now(UTC) - timedelta(seconds=1)

    for user_id in (alerted, paying):
        accounts.change(user_id, end)
    accounts.sweep()
    assert [kind for kind, _ in accounts.mails(alerted)] == ["trial_ending"]
    assert accounts.mails(paying)[1:] == [("low_balance", 10_000)]


def test_an_old_trial_does_not_suppress_the_alert(accounts: Accounts) -> None:
    ada = accounts.add(60_000)
    accounts.sweep()

    def had_one(user: User, balance: Balance) -> None:
        user.trial_told_of = balance.trial_expires_at = OLD

    accounts.change(ada, had_one)
    accounts.move(ada, -60_000)
    accounts.sweep()
    assert accounts.mails(ada) == [("low_balance", 0)]


def test_many_accounts_at_once(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptly.tasks.notices.BATCH", 3)
    users = [accounts.add(60_000) for _ in range(10)]
    run(accounts.app, send)
    for user_id in users:
        accounts.move(user_id, -20_000)
    together(accounts.app, *[send.run] * 4)
    run(accounts.app, send)
    assert [accounts.mails(user_id) for user_id in users] == [[("low_balance", 40_000)]] * 10
