"""Going back: deploy.sh deploys an older release on the schema of a newer one."""

import shutil
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from alembic.script import ScriptDirectory

from tests.deploy.releases import configure, deploy
from tests.support.servers import PROJECT, Gateway
from tests.support.units import Systemd

LATER = """
import sqlalchemy as sa
from alembic import op

revision = "0999"
down_revision = "{newest}"


def upgrade() -> None:
    op.create_table("later", sa.Column("id", sa.BigInteger(), primary_key=True))
"""
# As in releases that know nothing of newer ones.
PLAIN_ENVIRONMENT = """
from alembic import context
from flask import current_app

with current_app.extensions["migrate"].db.engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


def migrations(folder: Path, **files: str) -> Path:
    """Copy the project's migrations to a folder, with these files replaced or added."""
    shutil.copytree(PROJECT / "migrations", folder)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_older_release_is_deployed_on_the_newer_schema(
    tmp_path: Path, fresh_database: str, redis_url: str
) -> None:
    newest = ScriptDirectory(str(PROJECT / "migrations")).get_current_head()
    with Systemd(ignored=("promptly-worker.service", "promptly-beat.service")) as systemd:
        configure(systemd, Gateway(tmp_path, DATABASE_URL=fresh_database, REDIS_URL=redis_url))
        newer = migrations(
            tmp_path / "newer", **{"versions/0999_later": LATER.format(newest=newest)}
        )
        systemd.install("1.2.0", migrations=newer)
        systemd.install("1.1.0")
        systemd.install("1.0.0", migrations=migrations(tmp_path / "old", env=PLAIN_ENVIRONMENT))
        assert systemd.start("promptly-migrate@1.2.0.service") == 0

        deploy(systemd, "1.1.0")
        assert "nothing to migrate" in systemd.log("promptly-migrate@1.1.0.service")

        printed = deploy(systemd, "1.0.0")
        assert "Can't locate revision identified by '0999'" in printed
        assert "Nothing to migrate: the database has the newer schema 0999." in printed
        [old, current] = [unit for unit in systemd.processes if "gateway" in unit]
        assert "1.1.0" in old and "1.0.0" in current
        assert systemd.is_running(current)

        with closing(psycopg2.connect(fresh_database)) as connection, connection:
            connection.cursor().execute("UPDATE alembic_version SET version_num = 'ae1027a6acf0'")
        printed = deploy(systemd, "1.0.0", code=1)
        assert "revision ae1027a6acf0, which is none of promptly's" in printed
        assert "the migration failed; the running gateway stays" in printed
        assert systemd.is_running(current)
