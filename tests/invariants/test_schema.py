"""Models and migrations agree."""

from pathlib import Path

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from promptly.extensions import db
from promptly.models import Hold, UsageEvent
from promptly.request_ids import new_request_id
from promptly.services.ledger import verification
from promptly.services.usage import rollups
from promptly.transactions import transaction
from tests.support import factories


def test_models_and_schema_agree(app: Flask, project: object) -> None:
    with app.app_context(), db.engine.connect() as connection:

        def include(name: str | None, kind: str, _parents: object) -> bool:
            return not (kind == "table" and name and name.startswith("usage_events_"))

        options = {"compare_type": True, "include_name": include}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, db.metadata) == []


def test_revisions_are_ascending_numbers(project: Path) -> None:
    """By its number a release recognises the revision of a newer one (ADR 30)."""
    found = list(ScriptDirectory(str(project / "migrations")).walk_revisions())
    assert [(script.revision, script.down_revision) for script in reversed(found)] == [
        (f"{number:04}", f"{number - 1:04}" if number > 1 else None)
        for number in range(1, len(found) + 1)
    ]


def test_the_way_down_and_up_again(app: Flask, project: object) -> None:
    with app.app_context():
        directory = f"{project}/migrations"
        flask_migrate.downgrade(directory=directory, revision="base")
        with db.engine.connect() as connection:
            left = connection.scalars(
                text("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
            )
            assert {name for name in left if not name.startswith("alembic_version")} == set()
        flask_migrate.upgrade(directory=directory)


NEGATIVE_EVENT = """
INSERT INTO usage_events (
    request_id, user_id, endpoint, model, outcome, prompt_tokens, completion_tokens, charged_paid,
    charged_trial, uncharged_tokens, balance_tokens, duration_ms
)
VALUES (:id, :user_id, 'chat.completions', 'm', 'completed', -5, 5, -5, 0, 0, 105, 1)
"""
NEGATIVE_HOLD = """
INSERT INTO holds (request_id, user_id, endpoint, model, prompt_tokens)
VALUES (:id, :user_id, 'chat.completions', 'm', -5)
"""


def test_counts_that_are_negative_already_do_not_stop_the_upgrade(
    app: Flask, project: object
) -> None:
    migrations = f"{project}/migrations"
    with app.app_context():
        flask_migrate.downgrade(directory=migrations, revision="0006")
        with transaction() as session:
            # Later migrations give these tables more columns than there are now.
            user_id = session.scalar(
                text("INSERT INTO users (email) VALUES ('ada@example.com') RETURNING id")
            )
            assert user_id is not None
            session.execute(
                text("INSERT INTO balances (user_id, paid_tokens) VALUES (:id, 100)"),
                {"id": user_id},
            )
            event_id, hold_id = new_request_id(), new_request_id()
            session.execute(text(NEGATIVE_EVENT), {"id": event_id, "user_id": user_id})
            session.execute(text(NEGATIVE_HOLD), {"id": hold_id, "user_id": user_id})
        flask_migrate.upgrade(directory=migrations)
        with transaction() as session:
            kept = session.scalar(select(UsageEvent).where(UsageEvent.request_id == event_id))
            assert kept is not None and kept.charged_paid == -5
            assert session.get_one(Hold, hold_id).prompt_tokens == 0
            # The roll-up copes with it.
            rollups.roll_up()
        with pytest.raises(IntegrityError, match="not_negative"), transaction():
            factories.usage_event(user_id, completion_tokens=-5)


PLACE = "SELECT placed FROM metering_place_hold(%s, %s, 1, 'chat', 'm', 100, 100, 9)"
SETTLE = "SELECT charged FROM metering_settle(%s, 'm', 'completed', 20, 5, NULL, 1)"
SETTLE_MANY = """
SELECT charged FROM metering_settle_many(
    ARRAY[%s::uuid], ARRAY['m'], ARRAY['completed'], ARRAY[20], ARRAY[5], ARRAY[NULL::int], ARRAY[1]
)
"""


def test_the_release_before_cached_tokens_meters_on_the_new_schema(
    app: Flask, project: object
) -> None:
    """Also on connections that have used the functions before: PostgreSQL keeps their plans."""
    migrations = f"{project}/migrations"
    before = ScriptDirectory(migrations).get_revision("0016").down_revision
    assert isinstance(before, str)
    with app.app_context():
        with transaction():
            user_id = factories.user(paid_tokens=1000).id
        flask_migrate.downgrade(directory=migrations, revision=before)
        with db.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")

            def call(function: str, *arguments: object) -> object:
                return connection.exec_driver_sql(function, arguments).scalar()

            def place() -> str:
                request_id = str(new_request_id())
                assert call(PLACE, request_id, user_id)
                assert call("SELECT metering_adjust_hold(%s, 60)", request_id) == 60
                return request_id

            for function in (SETTLE, SETTLE_MANY):
                assert call(function, place()) == 25
            held = place()
            flask_migrate.upgrade(directory=migrations)
            assert call(SETTLE, held) == 25
            for function in (SETTLE, SETTLE_MANY):
                assert call(function, place()) == 25
            dead = place()
            call("UPDATE holds SET completion_tokens = 3 RETURNING 1")
            assert call("SELECT charged FROM metering_recover(%s, -1)", dead) == 3
            assert call("SELECT sum(cached_prompt_tokens) FROM usage_events") == 0
            assert call("SELECT paid_tokens FROM balances") == 1000 - 5 * 25 - 3


SETTLE_CACHED = "SELECT charged FROM metering_settle(%s, 'm', 'completed', 20, 8, 5, NULL, 1)"
BOOKS = """
SELECT e.request_id, e.prompt_tokens, e.completion_tokens, e.charged_paid, b.paid_tokens
FROM usage_events e JOIN balances b USING (user_id)
"""


def test_an_upgrade_to_prices_changes_no_charge(app: Flask, project: object) -> None:
    """Neither of requests before it, nor of those that run through it in the release before."""
    migrations = f"{project}/migrations"
    before = ScriptDirectory(migrations).get_revision("0021").down_revision
    assert isinstance(before, str)
    with app.app_context():
        with transaction():
            user_id = factories.user(paid_tokens=1000).id
        flask_migrate.downgrade(directory=migrations, revision=before)
        with db.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")

            def call(function: str, *arguments: object) -> object:
                return connection.exec_driver_sql(function, arguments).scalar()

            def place() -> str:
                request_id = str(new_request_id())
                assert call(PLACE, request_id, user_id)
                return request_id

            assert call(SETTLE_CACHED, place()) == 25
            [books] = connection.exec_driver_sql(BOOKS).all()
            running, dead = place(), place()
            flask_migrate.upgrade(directory=migrations)
            assert connection.exec_driver_sql(BOOKS).all() == [books]
            assert call(SETTLE_CACHED, running) == 25
            assert call(SETTLE_CACHED, place()) == 25
            call("UPDATE holds SET completion_tokens = 3 RETURNING 1")
            assert call("SELECT charged FROM metering_recover(%s, -1)", dead) == 3
            assert call("SELECT paid_tokens FROM balances") == 1000 - 3 * 25 - 3
        with transaction():
            assert {receipt["price"] for receipt in rollups.recent(user_id)} == {"100:100:100"}
            assert verification.verify() == []
