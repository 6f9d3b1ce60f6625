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


def test_counts_that_are_negative_already_do_not_stop_the_upgrade(
    app: Flask, project: object
) -> None:
    migrations = f"{project}/migrations"
    with app.app_context():
        flask_migrate.downgrade(directory=migrations, revision="0006")
        with transaction() as session:
            # Later migrations give accounts more columns than there are now.
            user_id = session.scalar(
                text("INSERT INTO users (email) VALUES ('ada@example.com') RETURNING id")
            )
            assert user_id is not None
            session.execute(
                text("INSERT INTO balances (user_id, paid_tokens) VALUES (:id, 100)"),
                {"id": user_id},
            )
            event = factories.usage_event(user_id, prompt_tokens=-5, charged_paid=-5)
            hold = factories.hold(user_id)
            hold.prompt_tokens = -5
            event_id, hold_id = event.request_id, hold.request_id
        flask_migrate.upgrade(directory=migrations)
        with transaction() as session:
            kept = session.scalar(select(UsageEvent).where(UsageEvent.request_id == event_id))
            assert kept is not None and kept.charged_paid == -5
            assert session.get_one(Hold, hold_id).prompt_tokens == 0
            # The roll-up copes with it.
            rollups.roll_up()
        with pytest.raises(IntegrityError, match="not_negative"), transaction():
            factories.usage_event(user_id, prompt_tokens=-5)
