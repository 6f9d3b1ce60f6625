"""The upgrade is skipped only if the database is at the newest migration."""

from contextlib import closing
from pathlib import Path

import psycopg2

from sandbox.migrations import is_at_head


def test_only_a_database_at_the_newest_migration_needs_no_upgrade(
    project: Path, fresh_database: str, tmp_path: Path
) -> None:
    assert is_at_head(project, fresh_database)
    assert not is_at_head(tmp_path, fresh_database)
    assert not is_at_head(project, "postgresql://nobody@127.0.0.1:1/none")
    with closing(psycopg2.connect(fresh_database)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("UPDATE alembic_version SET version_num = '0001'")
            assert not is_at_head(project, fresh_database)
            cursor.execute("DROP TABLE alembic_version")
    assert not is_at_head(project, fresh_database)
