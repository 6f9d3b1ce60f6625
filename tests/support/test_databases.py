"""A reused database is as empty as a new one, and out of its previous user's reach."""

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from tests.support.databases import Databases, FreshDatabase

INSERT = "INSERT INTO webhook_events (provider, event_id, type) VALUES ('stripe', 'e', 'k')"


@pytest.fixture
def fresh(databases: Databases, template_database: str) -> Iterator[FreshDatabase]:
    found = FreshDatabase(databases, template_database)
    yield found
    found.drop()


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def oid(url: str) -> object:
    """Return the database's oid, which a new name does not change."""
    return run(url, "SELECT oid FROM pg_database WHERE datname = current_database()")[0][0]


def add_row(url: str) -> object:
    """Insert a row into a table with a sequence and return its id."""
    return run(url, f"{INSERT} RETURNING id")[0][0]


def test_it_is_emptied_and_counts_from_one_again(
    databases: Databases, fresh: FreshDatabase
) -> None:
    first = databases.url(fresh.take())
    assert [add_row(first)] == [1]
    made = oid(first)
    fresh.give_back()
    second = databases.url(fresh.take())
    assert (oid(second), second != first) == (made, True)
    assert run(second, "SELECT count(*) FROM webhook_events") == [(0,)]
    assert run(second, "SELECT count(*) FROM alembic_version") == [(1,)]
    assert add_row(second) == 1
    fresh.give_back()


def test_sessions_left_open_are_ended(databases: Databases, fresh: FreshDatabase) -> None:
    url = databases.url(fresh.take())
    with closing(psycopg2.connect(url)) as left, left.cursor() as cursor:
        cursor.execute("LOCK TABLE users")
        fresh.give_back()
        fresh.take()
        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("SELECT 1")
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        psycopg2.connect(url)
    fresh.give_back()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE users ADD COLUMN extra integer",
        "CREATE TABLE extra (id integer)",
        "CREATE INDEX extra ON users (created_at, id)",
        "ALTER TABLE users DISABLE TRIGGER ALL",
        "CREATE FUNCTION extra() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "UPDATE alembic_version SET version_num = '0001'",
        "DROP TABLE alembic_version",
        "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET jit = off'; END $$",
    ],
)
def test_a_changed_one_is_not_used_again(
    databases: Databases, fresh: FreshDatabase, change: str
) -> None:
    url = databases.url(fresh.take())
    made = oid(url)
    run(url, change)
    fresh.give_back()
    assert oid(databases.url(fresh.take())) != made
    fresh.give_back()
