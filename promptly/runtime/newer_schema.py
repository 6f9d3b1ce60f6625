"""Recognises a database that a newer release has migrated, so that one can go back (ADR 30).

Revisions are ascending numbers, and a migration leaves what earlier releases use. So a release runs
on a newer schema that still has its tables and columns.

This module is a script too: releases from before it existed are deployed again by a newer
`deploy/deploy.sh`, which passes it to their Python. Of promptly it imports only their `wsgi`.
"""

import re
import sys

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, text

_REVISION = re.compile("[0-9]{4}")

_COLUMNS = text("""
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = ANY(current_schemas(false))
""")


class UnknownSchema(Exception):
    """The schema is not of this release, and this release cannot run on it; says why."""


def find_newer_revision(
    context: MigrationContext, scripts: ScriptDirectory, metadata: MetaData
) -> str | None:
    """Return the database's revision if a newer release made it, None if this release knows it.

    `scripts` and `metadata` are this release's. Raises UnknownSchema.
    """
    known = {script.revision for script in scripts.walk_revisions()}
    unknown = ", ".join(sorted(set(context.get_current_heads()) - known))
    if not unknown:
        return None
    if not _REVISION.fullmatch(unknown) or unknown < max(known):
        raise UnknownSchema(
            f"the database has the revision {unknown}, which is none of promptly's: check"
            " DATABASE_URL"
        )
    if missing := _missing(context, metadata):
        raise UnknownSchema(
            f"the database has the newer revision {unknown}, but no {missing[0]}, which this"
            " release needs: deploy a newer release"
        )
    return unknown


def _missing(context: MigrationContext, metadata: MetaData) -> list[str]:
    """Return the columns that the database lacks."""
    assert context.connection is not None  # as when it only prints SQL
    rows = context.connection.execute(_COLUMNS)
    present = {(row.table_name, row.column_name) for row in rows}
    needed = {(table.name, column.name) for table in metadata.sorted_tables for column in table.c}
    return [".".join(names) for names in sorted(needed - present)]


def main() -> None:
    """Exit with 0 if the release in the current folder runs on a newer release's schema."""
    from wsgi import app

    migrate = app.extensions["migrate"]
    with app.app_context(), migrate.db.engine.connect() as connection:
        try:
            revision = find_newer_revision(
                MigrationContext.configure(connection),
                ScriptDirectory("migrations"),
                migrate.db.metadata,
            )
        except UnknownSchema as problem:
            sys.exit(str(problem))
    if revision is None:
        sys.exit("the database has no newer schema")
    sys.stdout.write(f"Nothing to migrate: the database has the newer schema {revision}.\n")


if __name__ == "__main__":
    main()
