"""Alembic's environment: the application's engine, each migration in a transaction of its own.

Migrations run while the release before serves. One that waits for the lock of a busy table blocks
every request behind it, and one that holds a lock meanwhile can end in a deadlock with them. So it
gives up sooner than PostgreSQL looks for deadlocks, releases its locks, and is tried again.

After a return to an older release there is nothing to migrate: it runs on the newer schema.
"""

import logging
import time
from typing import Any

from alembic import context
from flask import current_app
from psycopg2.errors import LockNotAvailable
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError

from promptly.runtime.newer_schema import UnknownSchema, find_newer_revision
from promptly.services.imports import schema

logger = logging.getLogger("promptly.migrations")

# Below deadlock_timeout, and what a request can wait for at most.
LOCK_TIMEOUT = "500ms"
STATEMENT_TIMEOUT = "60s"
# The attempts end after about a minute and a half.
MOST_ATTEMPTS = 60
PAUSE_SECONDS = 1.0
TURN_TIMEOUT = "180s"


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
    with database.engine.begin() as guard:
        if schema.belongs_to_model_gateway(guard):
            raise SystemExit(schema.BELONGS_TO_MODEL_GATEWAY)
        # Idle while the migrations run on another connection.
        guard.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        guard.execute(text(f"SET LOCAL statement_timeout = '{TURN_TIMEOUT}'"))
        # With two concurrent deploys the second waits here, then finds nothing to do.
        guard.execute(text("SELECT pg_advisory_xact_lock(724102)"))
        if not _is_ahead(guard, database):
            _migrate(database)


def _is_ahead(connection: Connection, database: Any) -> bool:
    """Whether this is an upgrade, and a newer release has made it unnecessary.

    Alembic itself refuses a revision that it has no file of, as do its other commands.
    """
    context.configure(connection=connection)
    # How Alembic says which command runs.
    if context.get_context().opts["fn"].__name__ != "upgrade":
        return False
    try:
        revision = find_newer_revision(context.get_context(), context.script, database.metadata)
    except UnknownSchema as problem:
        raise SystemExit(str(problem)) from problem
    if revision is not None:
        logger.warning("nothing to migrate: the schema is newer", extra={"revision": revision})
    return revision is not None


def _migrate(database: Any) -> None:
    for attempts_left in reversed(range(MOST_ATTEMPTS)):
        with database.engine.connect() as connection:
            event.listen(connection, "begin", _limit_waiting)
            context.configure(
                connection=connection,
                target_metadata=database.metadata,
                include_name=include_name,
                compare_type=True,
                transaction_per_migration=True,
            )
            try:
                with context.begin_transaction():
                    context.run_migrations()
            except OperationalError as problem:
                if not isinstance(problem.orig, LockNotAvailable) or not attempts_left:
                    raise
            else:
                return
        time.sleep(PAUSE_SECONDS)


def _limit_waiting(connection: Connection) -> None:
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")


run()
