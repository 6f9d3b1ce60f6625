from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from promptly.extensions import db
from promptly.models import Balance, OutboxMail, TrialCount, User
from promptly.services.accounts import accounts, trial_limits
from promptly.services.ledger import verification
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support.races import together
from tests.support.servers import make_settings


def trial_of(session: Session, email: str) -> int:
    session.flush()
    return session.get_one(Balance, accounts.find(email=email).id).trial_tokens


def test_no_limit_counts_too(session: Session) -> None:
    for number in range(3):
        accounts.create(f"user{number}@example.com", make_settings())
    accounts.create("ada@gmail.com", make_settings())
    assert trial_limits.granted_today() == 4
    assert trial_limits.busiest_domains(5) == [("example.com", 3)]
    limited = make_settings(trials_per_day=4)
    accounts.create("eve@example.org", limited)
    assert trial_of(session, "eve@example.org") == 0


def test_a_domain_has_its_limit_and_large_providers_have_none(session: Session) -> None:
    settings = make_settings(trials_per_domain_per_day=1)
    addresses = ["a@x.example.com", "b@y.example.com", "c@example.co.uk", "d@example.org.uk"]
    addresses += [f"user{number}@gmail.com" for number in range(3)]
    for address in addresses:
        accounts.create(address, settings)
    without = [address for address in addresses if trial_of(session, address) == 0]
    assert without == ["b@y.example.com"]
    # The refused trial counts nowhere.
    assert trial_limits.granted_today() == 6
    assert trial_limits.count_full_domains(settings) == 3


def test_a_full_day_leaves_no_count_at_the_domain(session: Session) -> None:
    settings = make_settings(trials_per_day=1, trials_per_domain_per_day=5)
    for number in range(3):
        accounts.create(f"user{number}@example{number}.com", settings)
    assert trial_limits.busiest_domains(5) == [("example0.com", 1)]


def test_a_deferred_trial_is_granted_on_a_later_day(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(trials_per_day=1)
    accounts.register("first@example.com", settings)
    accounts.register("ada@example.com", settings)
    accounts.register("ada@example.com", settings)
    assert trial_of(session, "ada@example.com") == 0
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    monkeypatch.setattr(trial_limits, "utcnow", lambda: tomorrow)
    accounts.register("ada@example.com", settings)
    accounts.register("ada@example.com", settings)
    assert trial_of(session, "ada@example.com") == 100_000
    # Now its mailbox has had its trial.
    accounts.register("ada+x@example.com", make_settings())
    assert trial_of(session, "ada+x@example.com") == 0
    mails = session.query(OutboxMail).order_by(OutboxMail.id)
    assert [mail.payload.get("trial_deferred", False) for mail in mails] == [
        False, True, True, False, False, False,
    ]  # fmt: skip
    assert verification.verify() == []


def test_another_spelling_that_got_the_trial_ends_the_deferral(session: Session) -> None:
    full = make_settings(trials_per_day=1)
    accounts.create("first@example.com", full)
    accounts.register("ada@example.com", full)
    accounts.register("ada+x@example.com", make_settings())
    assert trial_of(session, "ada+x@example.com") == 100_000
    accounts.register("ada@example.com", make_settings())
    assert trial_of(session, "ada@example.com") == 0
    assert not accounts.find(email="ada@example.com").trial_deferred


def test_counts_of_past_days_are_forgotten(session: Session) -> None:
    today = datetime.now(UTC).date()
    for days in range(4):
        day = today - timedelta(days=days)
        session.add(TrialCount(day=day, domain="example.com", granted=1))
    session.flush()
    trial_limits.forget()
    assert session.query(TrialCount).count() == 2


def test_concurrent_registrations_stay_within_both_limits(app_factory: AppFactory) -> None:
    app = app_factory(trials_per_day=5, trials_per_domain_per_day=3)
    settings = app.extensions["settings"]

    def register(email: str) -> None:
        with transaction():
            accounts.register(email, settings)

    addresses = [f"user{number}@{name}.example{name}.com" for number in range(6) for name in "ab"]
    together(app, *[lambda email=email: register(email) for email in addresses])
    with app.app_context():
        assert db.session.query(User).count() == 12
        trials = [
            user.email.rpartition("@")[2]
            for user, balance in db.session.query(User, Balance).join(Balance)
            if balance.trial_tokens
        ]
        granted = sorted(Counter(trials).values())
        assert granted == [2, 3] and trial_limits.granted_today() == 5
        deferred = db.session.query(User).filter(User.trial_deferred).count()
        assert deferred == 7
        assert verification.verify() == []
