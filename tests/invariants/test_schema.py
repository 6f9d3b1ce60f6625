"""Models and migrations agree."""

import flask_migrate
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from sqlalchemy import text

from promptly.extensions import db


def test_models_and_schema_agree(app: Flask, project: object) -> None:
    with app.app_context(), db.engine.connect() as connection:

        def include(name: str | None, kind: str, _parents: object) -> bool:
            return not (kind == "table" and name and name.startswith("usage_events_"))

        options = {"compare_type": True, "include_name": include}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, db.metadata) == []


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
