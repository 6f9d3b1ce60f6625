"""Seeded benchmark data is consistent, and seeding refuses a database that is in use."""

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import text

from bench.seed import NotEmpty, seed
from promptly.app import create_app
from promptly.extensions import db
from promptly.services.accounts import accounts
from promptly.services.ledger import ledger, verification
from promptly.services.payments import lots, refunds
from promptly.services.usage import partitions
from promptly.transactions import transaction
from tests.conftest import dispose
from tests.support import factories
from tests.support.databases import Databases
from tests.support.servers import make_settings


@pytest.fixture(scope="module")
def seeded(databases: Databases, template_database: str) -> Iterator[Flask]:
    with databases.temporary(template_database) as url:
        app = create_app(make_settings(database_url=url))
        with app.app_context():
            seed(1000, 5000, say=lambda _: None)
        yield app
        dispose(app)


def scalar(statement: str) -> int:
    return int(db.session.scalar(text(statement)) or 0)


def test_every_balance_equals_its_entries(seeded: Flask) -> None:
    with seeded.app_context():
        assert verification.count_accounts() == 1000
        assert verification.verify() == []


def test_events_lie_in_months_and_in_the_order_of_time(seeded: Flask) -> None:
    with seeded.app_context():
        assert scalar("SELECT count(*) FROM usage_events") == 5000
        assert scalar("SELECT count(*) FROM usage_events_default") == 0
        assert len(partitions.existing()) >= 3 + partitions.MONTHS_AHEAD
        assert scalar("SELECT count(*) FROM usage_events WHERE created_at > now()") == 0
        early = "SELECT count(*) FROM usage_events e JOIN users u ON u.id = e.user_id"
        assert scalar(f"{early} WHERE e.created_at < u.created_at") == 0
        assert scalar("SELECT count(*) FROM usage_events e LEFT JOIN users u ON u.id = e.user_id"
                      " WHERE u.id IS NULL") == 0  # fmt: skip


def test_totals_equal_the_events(seeded: Flask) -> None:
    with seeded.app_context():
        for table in ("daily_totals", "daily_outcomes", "usage_rollups"):
            assert scalar(f"SELECT sum(requests) FROM {table}") == 5000, table
        tokens = "SELECT sum(prompt_tokens + completion_tokens)"
        assert scalar(f"{tokens} FROM daily_totals") == scalar(f"{tokens} FROM usage_events")


def test_there_is_something_of_everything(seeded: Flask) -> None:
    tables = ("api_keys", "account_activity", "orders", "payment_cases", "payment_reversals",
              "payment_reconciliations", "webhook_events", "outbox", "holds", "audit_entries",
              "ledger_entries")  # fmt: skip
    with seeded.app_context():
        assert [table for table in tables if not scalar(f"SELECT count(*) FROM {table}")] == []
        states = set(db.session.scalars(text("SELECT DISTINCT state FROM orders")))
        assert states >= {"paid", "refunded", "expired", "failed", "attention"}


def test_services_work_on_it(seeded: Flask) -> None:
    with seeded.app_context(), transaction():
        heaviest = accounts.find(user_id=1)
        assert len(ledger.entries(1)) == len(lots.of_account(1)) + 2
        new = accounts.create("new@example.com", seeded.extensions["settings"])
        assert new.id > heaviest.id
        number = db.session.scalar(
            text("SELECT number FROM orders WHERE state = 'refunded' LIMIT 1")
        )
        with pytest.raises(Exception, match="all of it was given back"):
            refunds.request_refund(number or "", amount_minor=1, actor="test")


def test_a_database_that_is_used_is_refused(seeded: Flask, app_context: Flask) -> None:
    factories.user()
    with pytest.raises(NotEmpty, match="users"):
        seed(1000, 1000)
    with seeded.app_context(), pytest.raises(NotEmpty):
        seed(1000, 1000)


@pytest.mark.parametrize(("users", "events"), [(9, 5000), (1000, -1), (10**9, 5000), (1000, 10**9)])
def test_sizes_are_bounded(app_context: Flask, users: int, events: int) -> None:
    with pytest.raises(ValueError, match="10 to"):
        seed(users, events)
