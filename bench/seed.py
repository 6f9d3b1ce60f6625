"""Fills an empty database with a made-up service: `python -m bench.seed --help`.

Its ledger is consistent: `flask ledger verify` finds every balance equal to its entries.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import flask_migrate
from sqlalchemy import inspect, text

from bench import seed_sql
from promptly.app import create_app
from promptly.extensions import db
from promptly.services.accounts import key_activity
from promptly.services.usage import breakdowns, rollups, statistics
from promptly.settings import Settings
from promptly.transactions import transaction

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

LEAST_USERS = 10
MOST_USERS = 1_000_000
MOST_EVENTS = 50_000_000
# Events per statement; progress is reported after each.
BATCH = 250_000

Say = Callable[[str], None]


class NotEmpty(Exception):
    """The database holds data that seeding might disturb."""


def settings_for(database_url: str, redis_url: str = "redis://127.0.0.1:1/0") -> Settings:
    """Return settings of an application on this database, with dummy secrets."""
    return Settings.from_mapping(
        {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "LLAMA_BASE_URL": "http://127.0.0.1:1",
            "GATEWAY_SECRET_KEY": "bench-session-secret-0123456789-abcdef",
            "KEY_PEPPER": "bench-key-pepper-0123456789-abcdefghij",
            "ADMIN_KEY": "bench-admin-key-0123456789-abcdefghij",
            "SMTP_TLS": "none",
            "LOG_LEVEL": "warning",
        }
    )


def seed(users: int, events: int, say: Say = print) -> None:
    """Fill the database of the current application. Raises NotEmpty if it holds data.

    Raises ValueError unless `users` is LEAST_USERS to MOST_USERS and `events` 0 to MOST_EVENTS.
    """
    if not (LEAST_USERS <= users <= MOST_USERS and 0 <= events <= MOST_EVENTS):
        raise ValueError(f"{LEAST_USERS} to {MOST_USERS} users and 0 to {MOST_EVENTS} events")
    _refuse_filled_database()
    sizes = {"users": users, "events": events}
    with _reported("users and keys", say):
        _run(seed_sql.USERS, seed_sql.SEQUENCE, seed_sql.KEYS, **sizes)
    with _reported("usage events", say):
        _run(seed_sql.PARTITION)
        for first in range(1, events + 1, BATCH):
            _run(seed_sql.EVENTS, **sizes, first=first, last=min(first + BATCH - 1, events))
            say(f"  {min(first + BATCH - 1, events):,} events")
    _run(seed_sql.LONG_BROKEN_DOWN)
    with _reported("roll-ups", say), transaction():
        rolled_up = rollups.roll_up()
        breakdowns.roll_up()
    with _reported("purchases and the ledger", say):
        _run(seed_sql.ORDERS, seed_sql.ENTRIES, seed_sql.REFUNDS, seed_sql.CASES)
        _run(seed_sql.BALANCES, seed_sql.HOLDS)
    with _reported("statistics", say), transaction():
        statistics.refresh(rolled_up)
        key_activity.note()
    with _reported("webhook events, mails, audit log", say):
        _run(seed_sql.WEBHOOKS, seed_sql.MAILS, seed_sql.AUDIT, seed_sql.RECONCILIATIONS, **sizes)
    with _reported("vacuum and analyze", say):
        _vacuum()


def migrate() -> None:
    """Create the tables of the newest schema if there are none."""
    if not inspect(db.engine).has_table("alembic_version"):
        flask_migrate.upgrade(directory=str(MIGRATIONS))


def _refuse_filled_database() -> None:
    with transaction() as session:
        for table in ("users", "usage_events", "orders", "outbox", "webhook_events"):
            if session.scalar(text(f"SELECT EXISTS (SELECT FROM {table})")):
                raise NotEmpty(f"There are {table} in this database: seed an empty one.")


def _run(*statements: str, **parameters: int) -> None:
    with transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        session.execute(text("SET LOCAL synchronous_commit = off"))
        session.execute(text("SET LOCAL work_mem = '256MB'"))
        for statement in statements:
            needed = {name: value for name, value in parameters.items() if f":{name}" in statement}
            session.execute(text(statement), needed)


def _vacuum() -> None:
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        # Explicitly, also because autovacuum does not analyze a partitioned table as a whole.
        connection.execute(text(f"VACUUM (ANALYZE) {', '.join(db.metadata.tables)}"))


@contextmanager
def _reported(what: str, say: Say) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.seed", description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument(
        "database_url",
        nargs="?",
        default=os.environ.get("DATABASE_URL"),
        help="an empty database; or DATABASE_URL",
    )
    options = parser.parse_args()
    if not options.database_url:
        parser.error("name the database, or set DATABASE_URL")
    with create_app(settings_for(options.database_url)).app_context():
        try:
            migrate()
            seed(options.users, options.events)
        except (NotEmpty, ValueError) as problem:
            parser.error(str(problem))


if __name__ == "__main__":
    main()
