from datetime import UTC, datetime, timedelta

from flask import Flask
from sqlalchemy import text

from promptly.extensions import db
from promptly.services.accounts.trials import count_unrecorded
from promptly.services.ledger import verification
from promptly.tasks import alone, trials, usage
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.races import run, together

PAST = datetime.now(UTC) - timedelta(days=1)


def test_trials_expire_once_twice_and_in_parallel(app: Flask) -> None:
    with app.app_context(), transaction():
        for _ in range(7):
            factories.user(trial_tokens=10, trial_expires_at=PAST)
    together(app, *[trials.expire.run] * 3)
    run(app, trials.expire)
    with app.app_context():
        assert db.session.scalar(text("SELECT sum(trial_tokens) FROM balances")) == 0
        lapses = text("SELECT count(*) FROM ledger_entries WHERE kind = 'trial_lapse'")
        assert db.session.scalar(lapses) == 7
        assert verification.verify() == []


def test_expiry_goes_on_until_all_is_done(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        session.execute(
            text(
                "INSERT INTO users (email) SELECT 'u' || n || '@example.com' "
                "FROM generate_series(1, 1200) n"
            )
        )
        session.execute(
            text(
                "INSERT INTO balances (user_id, trial_tokens, trial_expires_at) "
                "SELECT id, 10, now() - interval '1 day' FROM users"
            )
        )
    run(app, trials.expire)
    with app.app_context():
        assert db.session.scalar(text("SELECT sum(trial_tokens) FROM balances")) == 0


def test_mailboxes_of_an_earlier_version_are_recorded_in_parallel(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        session.execute(
            text(
                "INSERT INTO users (email) SELECT 'u.' || n || '@gmail.com' "
                "FROM generate_series(1, 1200) n"
            )
        )
        session.execute(text("INSERT INTO trial_counts VALUES ('2026-01-01', 'example.com', 1)"))
    together(app, *[trials.record_mailboxes.run] * 3)
    run(app, trials.record_mailboxes)
    with app.app_context():
        assert count_unrecorded() == 0
        # Both foldings of each.
        assert db.session.scalar(text("SELECT count(*) FROM trial_claims")) == 2400
        assert db.session.scalar(text("SELECT count(*) FROM trial_counts")) == 0


def test_roll_up_twice_and_in_parallel(app: Flask) -> None:
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=1000)
        for _ in range(20):
            factories.usage_event(user.id, charged_paid=15)
    together(app, *[usage.roll_up.run] * 3)
    run(app, usage.roll_up)
    with app.app_context():
        rows = db.session.execute(text("SELECT requests, charged_tokens FROM usage_rollups")).all()
        assert [tuple(row) for row in rows] == [(20, 300)]
        totals = db.session.execute(text("SELECT requests, active_accounts FROM daily_totals"))
        assert [tuple(row) for row in totals] == [(20, 1)]


def test_partitions_twice_and_in_parallel(app_factory: AppFactory) -> None:
    app = app_factory(usage_retention_days=30)
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=1000)
        factories.usage_event(user.id, created_at=datetime(2021, 5, 5, tzinfo=UTC), charged_paid=9)
    run(app, usage.roll_up)
    together(app, *[usage.maintain_partitions.run] * 3)
    run(app, usage.maintain_partitions)
    with app.app_context():
        assert db.session.scalar(text("SELECT count(*) FROM usage_events")) == 0
        closing = text("SELECT count(*) FROM ledger_entries WHERE kind = 'usage_closing'")
        assert db.session.scalar(closing) == 1
        assert verification.verify() == []


def test_only_one_works_at_a_task(app: Flask) -> None:
    def inside() -> bool:
        with alone("a task") as chosen:
            return chosen

    with app.app_context(), alone("a task") as chosen:
        assert chosen
        assert together(app, inside) == [False]
    assert together(app, inside) == [True]
