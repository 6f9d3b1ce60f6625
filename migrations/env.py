"""Alembic's environment: the application's engine, with timeouts.

A migration that cannot get its lock gives up after seconds: waiting for the lock of a busy table
would block every request behind it.
"""

from typing import Any

from alembic import context
from flask import current_app
from sqlalchemy import text

from promptly.services.imports import schema

LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "60s"


def include_name(name: str | None, kind: str, parents: Any) -> bool:
    """Exclude the monthly partitions, which the task that maintains usage events creates."""
    return not (kind == "table" and name is not None and name.startswith("usage_events_"))


def run() -> None:
    database = current_app.extensions["migrate"].db
    if context.is_offline_mode():
        context.configure(url=str(database.engine.url), literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    with database.engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=database.metadata,
            include_name=include_name,
            compare_type=True,
        )
        with context.begin_transaction():
            if schema.belongs_to_model_gateway(connection):
                raise SystemExit(schema.BELONGS_TO_MODEL_GATEWAY)
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
            # With two concurrent deploys the second waits here, then finds nothing to do.
            connection.execute(text("SELECT pg_advisory_xact_lock(724102)"))
            context.run_migrations()


run()
