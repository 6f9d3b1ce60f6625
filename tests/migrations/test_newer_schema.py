"""An older release on a newer schema has nothing to migrate; it refuses what it cannot run on."""

from collections.abc import Callable
from pathlib import Path

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import text

from promptly.cli import checks
from promptly.cli.checks import Finding
from promptly.extensions import db
from promptly.transactions import transaction
from tests.support.servers import make_settings

NEWER = "UPDATE alembic_version SET version_num = '0999'"
Upgrade = Callable[[], None]


@pytest.fixture
def upgrade(app: Flask, project: Path) -> Upgrade:
    return lambda: flask_migrate.upgrade(directory=str(project / "migrations"))


def change(*statements: str) -> None:
    with transaction() as session:
        for statement in statements:
            session.execute(text(statement))


def revision() -> object:
    with transaction() as session:
        return session.scalar(text("SELECT version_num FROM alembic_version"))


def doctor() -> Finding:
    """Return the doctor's finding about migrations."""
    found = {finding.check: finding for finding in checks.postgresql(make_settings())}
    db.session.rollback()
    return found["Migrations"]


def test_a_newer_schema_stays(app: Flask, upgrade: Upgrade) -> None:
    with app.app_context():
        newest = revision()
        assert doctor() == Finding("Migrations", "ok", "at head")
        change(NEWER, "ALTER TABLE users ADD COLUMN later text")
        upgrade()
        assert revision() == "0999" != newest
        finding = doctor()
        assert finding.level == "warning" and "0999 is of a newer release" in finding.message


def test_a_newer_schema_that_lacks_a_column_is_refused(app: Flask, upgrade: Upgrade) -> None:
    with app.app_context():
        change(NEWER, "ALTER TABLE users DROP COLUMN trial_notice")
        with pytest.raises(SystemExit, match=r"0999, but no users\.trial_notice"):
            upgrade()
        assert doctor().level == "error"


@pytest.mark.parametrize("foreign", ["ae1027a6acf0", "99", "0000", "head"])
def test_a_foreign_revision_is_refused(app: Flask, upgrade: Upgrade, foreign: str) -> None:
    with app.app_context():
        change(f"UPDATE alembic_version SET version_num = '{foreign}'")
        with pytest.raises(SystemExit, match=f"revision {foreign}, which is none of promptly's"):
            upgrade()
        finding = doctor()
        assert finding.level == "error" and "check DATABASE_URL" in finding.message


def test_only_an_upgrade_passes_over_a_newer_schema(app: Flask, project: Path) -> None:
    with app.app_context():
        change(NEWER)
        with pytest.raises(SystemExit):
            flask_migrate.downgrade(directory=str(project / "migrations"), revision="0006")
        assert revision() == "0999"
