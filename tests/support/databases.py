"""Databases for tests: empty and migrated, copied from a template or reused."""

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
from psycopg2 import sql
from sqlalchemy import make_url

# Every schema change inserts or rewrites a row in one of these catalogs.
CATALOGS = ("pg_attribute", "pg_constraint", "pg_index", "pg_proc", "pg_rewrite", "pg_trigger")
CLOSE_SESSIONS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
RESET_SEQUENCES = """
SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
FROM pg_sequences WHERE last_value IS NOT NULL
"""
TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""


class Databases:
    """Create and drop databases on one PostgreSQL server."""

    def __init__(self, url: str) -> None:
        self.server_url = url.replace("postgresql+psycopg2://", "postgresql://")

    def url(self, name: str) -> str:
        """Return the URL of a database on this server."""
        return make_url(self.server_url).set(database=name).render_as_string(hide_password=False)

    def create(self, template: str = "template1", prefix: str = "promptly_test") -> str:
        """Create a database and return its name."""
        name = new_name(prefix)
        self._run(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return name

    @contextmanager
    def temporary(self, template: str) -> Iterator[str]:
        """Create a database for the block and yield its URL."""
        name = self.create(template)
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    def rename(self, name: str) -> str:
        """Rename a database that has no sessions, and return its new name."""
        renamed = new_name("promptly_test")
        statement = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        self._run(statement.format(sql.Identifier(name), sql.Identifier(renamed)))
        return renamed

    def drop(self, name: str) -> None:
        """Drop a database, ending the sessions that use it."""
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, statement: sql.Composed) -> None:
        with closing(psycopg2.connect(self.server_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)


class FreshDatabase:
    """One reusable database, emptied after each use, which takes a third of creating one.

    Each user gets it under a new name, out of reach of anything that an earlier user left running.
    It is dropped if its schema, its settings or the migrations' rows were changed.
    """

    def __init__(self, databases: Databases, template: str) -> None:
        self._databases = databases
        self._template = template
        self._name: str | None = None
        self._as_new: object = None
        self._tables: list[str] = []
        self._filled: list[str] = []

    def take(self) -> str:
        """Create the database, or rename the emptied one, and return its name."""
        if self._name is not None:
            self._name = self._databases.rename(self._name)
            return self._name
        self._name = self._databases.create(self._template)
        connection = psycopg2.connect(self._databases.url(self._name))
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(TABLES)
            self._tables = [row[0] for row in cursor.fetchall()]
            # Filled by the migrations.
            self._filled = _not_empty(cursor, self._tables)
            self._as_new = self._state(cursor)
        return self._name

    def give_back(self) -> None:
        """Empty the database for its next user, or drop it if emptying cannot restore it."""
        assert self._name is not None
        with closing(psycopg2.connect(self._databases.url(self._name))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(CLOSE_SESSIONS)
                try:
                    is_as_new = self._state(cursor) == self._as_new
                except psycopg2.Error:  # a table filled by the migrations is gone
                    is_as_new = False
                if is_as_new:
                    others = [table for table in self._tables if table not in self._filled]
                    used = _not_empty(cursor, others)
                    if used:
                        cursor.execute(f"TRUNCATE {', '.join(used)} CASCADE")
                    cursor.execute(RESET_SEQUENCES)
        if not is_as_new:
            self.drop()

    def drop(self) -> None:
        if self._name is not None:
            self._databases.drop(self._name)
            self._name = None

    def _state(self, cursor: "psycopg2.extensions.cursor") -> object:
        """Return a fingerprint of the schema, the database settings and the migrations' rows."""
        asked = [f"(SELECT (count(*), max(xmin::text::bigint))::text FROM {c})" for c in CATALOGS]
        asked += ["(SELECT count(*)::text FROM pg_class)"]
        asked += ["(SELECT count(*)::text FROM pg_db_role_setting)"]
        asked += [f"(SELECT string_agg(t::text, ',') FROM {table} t)" for table in self._filled]
        cursor.execute(f"SELECT {', '.join(asked)}")
        return cursor.fetchone()


def new_name(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:16]}"


def _not_empty(cursor: "psycopg2.extensions.cursor", tables: list[str]) -> list[str]:
    if not tables:
        return []
    cursor.execute(f"SELECT {', '.join(f'EXISTS (SELECT FROM {table})' for table in tables)}")
    found = cursor.fetchone()
    assert found is not None
    return [table for table, is_filled in zip(tables, found, strict=True) if is_filled]
