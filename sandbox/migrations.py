"""Check that a database has the newest schema, in a fraction of the time of an upgrade."""

from contextlib import closing
from pathlib import Path

import psycopg2
from alembic.script import ScriptDirectory
from alembic.util import CommandError

CONNECT_TIMEOUT_SECONDS = 10


def is_at_head(folder: Path, database_url: str) -> bool:
    """Whether the database is at the project's newest migration; False if either is unreadable."""
    try:
        newest = set(ScriptDirectory(str(folder / "migrations")).get_heads())
        url = database_url.replace("postgresql+psycopg2://", "postgresql://", 1)
        connection = psycopg2.connect(url, connect_timeout=CONNECT_TIMEOUT_SECONDS)
        with closing(connection), connection.cursor() as cursor:
            cursor.execute("SELECT version_num FROM alembic_version")
            return {row[0] for row in cursor.fetchall()} == newest
    except (CommandError, psycopg2.Error):
        return False
