"""Migrations beside a release that serves: short waits for locks, one transaction each."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import flask_migrate
import psycopg2
import pytest

from promptly.app import create_app
from sandbox.migrations import is_at_head
from tests.support.books import wait_for
from tests.support.databases import Databases
from tests.support.servers import PROJECT, make_settings, migrate

# Of the tables that 0007 changes, and that 0008 does.
FIRST, SECOND = "holds", "api_keys"
WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = %s::regclass AND NOT granted)"


@pytest.fixture
def older(databases: Databases, template_database: str) -> Iterator[str]:
    """URL of a database with the schema of 0006."""
    with databases.temporary(template_database) as url:
        app = create_app(make_settings(database_url=url, log_level="warning"))
        with app.app_context():
            flask_migrate.downgrade(directory=str(PROJECT / "migrations"), revision="0006")
            for engine in app.extensions["sqlalchemy"].engines.values():
                engine.dispose()
        yield url


@contextmanager
def used(url: str, table: str) -> Iterator[psycopg2.extensions.cursor]:
    """Use a table in a transaction that stays open, and yield a cursor outside of it."""
    with closing(psycopg2.connect(url)) as user, closing(psycopg2.connect(url)) as other:
        user.cursor().execute(f"SELECT FROM {table}")
        other.autocommit = True
        yield other.cursor()


def value(cursor: psycopg2.extensions.cursor, statement: str, *parameters: str) -> object:
    cursor.execute(statement, parameters)
    row = cursor.fetchone()
    return row and row[0]


def test_a_migration_gives_way_to_a_busy_table_and_tries_again(older: str) -> None:
    thread = threading.Thread(target=migrate, args=(older,))
    with used(older, FIRST) as cursor:
        thread.start()
        wait_for(lambda: bool(value(cursor, WAITS, FIRST)), "a migration that waits")
        wait_for(lambda: not value(cursor, WAITS, FIRST), "a migration that gives way")
        assert thread.is_alive()
    thread.join()
    assert is_at_head(PROJECT, older)


def test_a_migration_that_waits_holds_no_lock_of_the_one_before(older: str) -> None:
    thread = threading.Thread(target=migrate, args=(older,))
    with used(older, SECOND) as cursor:
        thread.start()
        wait_for(lambda: bool(value(cursor, WAITS, SECOND)), "a migration that waits")
        assert value(cursor, "SELECT version_num FROM alembic_version") == "0007"
    thread.join()
    assert is_at_head(PROJECT, older)
