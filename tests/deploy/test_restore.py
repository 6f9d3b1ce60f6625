"""Backups of a real database in use, restored into an empty one by deploy/restore.sh."""

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import flask_migrate
import psycopg2
import pytest

from promptly.app import create_app
from promptly.setting_parsers import database_url
from sandbox import postgres_places
from sandbox.btcpay import SimulatedBTCPay
from sandbox.postgres import EmbeddedPostgres
from sandbox.stripe import SimulatedStripe
from tests.conftest import dispose
from tests.deploy.backups import Release
from tests.support.process_stack import copy_migrated_data
from tests.support.servers import PROJECT, WorkerRedis, make_settings
from tests.support.shop import Shop, configuration

pytestmark = pytest.mark.slow

TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
ROWS = "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {} AS t"
# Dumps what the transaction that exported the snapshot sees.
DUMP_SNAPSHOT = 'exec "$REAL" --snapshot="$SNAPSHOT" "$@"'
OLDER_SCHEMA = "0009"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server with the migrated database `promptly`."""
    made = EmbeddedPostgres(tmp_path_factory.mktemp("servers") / "source", durable=False)
    copy_migrated_data(made)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def empty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A new cluster with the role `gateway` and no database of ours."""
    made = EmbeddedPostgres(tmp_path_factory.mktemp("servers") / "target", durable=False)
    made.start()
    execute(made.url("postgres"), "CREATE ROLE gateway LOGIN CREATEDB")
    yield made
    made.stop()


@pytest.fixture
def target(empty_server: EmbeddedPostgres) -> Iterator[str]:
    """URL of an empty database `gateway` on the new cluster, for the role `gateway`."""
    execute(empty_server.url("postgres"), "CREATE DATABASE gateway OWNER gateway")
    yield empty_server.url("gateway").replace("//postgres@", "//gateway@")
    empty_server.drop_database("gateway")


@pytest.fixture(scope="module")
def shop(
    server: EmbeddedPostgres,
    redis_server: WorkerRedis,
    stripe_server: SimulatedStripe,
    btcpay_server: SimulatedBTCPay,
) -> Iterator[Shop]:
    """A shop on the source database, with purchases and usage."""
    app = create_app(
        make_settings(
            database_url=server.url(),
            redis_url=redis_server.url,
            log_level="warning",
            **configuration(stripe_server, btcpay_server),
        )
    )
    made = Shop(app, "", stripe_server, btcpay_server)
    made.open()
    for method in ("stripe", "btcpay"):
        user_id = made.account(paid_tokens=1_000)
        made.buy(user_id, method=method)
        made.order(user_id)
        made.spend(user_id, 300)
    made.reconcile()
    yield made
    dispose(app)


@pytest.fixture
def release(tmp_path: Path, server: EmbeddedPostgres) -> Release:
    made = Release(tmp_path, server.url())
    made.use_real_programs()
    return made


@pytest.fixture
def backup(release: Release, shop: Shop) -> Path:
    """A backup of the shop."""
    release.back_up()
    return release.dump()


def execute(url: str, statement: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement)


def contents(cursor: "psycopg2.extensions.cursor") -> dict[str, tuple[int, str | None]]:
    """Return the number of rows of each table, and a digest of them."""
    cursor.execute(TABLES)
    found: dict[str, tuple[int, str | None]] = {}
    for (table,) in cursor.fetchall():
        cursor.execute(ROWS.format(table))
        [found[table]] = cursor.fetchall()
    return found


def contents_of(url: str) -> dict[str, tuple[int, str | None]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        return contents(cursor)


def recorded_backup(url: str) -> str:
    """Return the name of the backup whose time the database has."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT last_run_at FROM sweep_states WHERE name = 'backup'")
        [(at,)] = cursor.fetchall()
        return f"promptly-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}.dump"


def schema_of(url: str) -> list[str]:
    """Return the statements that create the database's objects."""
    program = postgres_places.programs(None) / "pg_dump"
    options = ["--schema-only", "--no-owner", "--no-privileges", f"--dbname={url}"]
    done = subprocess.run([program, *options], capture_output=True, text=True, check=True)
    # Newer versions add a line with a random word.
    return [line for line in done.stdout.splitlines() if not line.startswith("\\")]


@contextmanager
def writing(shop: Shop) -> Iterator[None]:
    """Keep charging and crediting accounts, and be in the middle of it for the whole block."""
    written, end = Event(), Event()

    def write() -> None:
        while not end.is_set():
            shop.spend(shop.account(paid_tokens=50), 20)
            written.set()

    thread = Thread(target=write)
    thread.start()
    try:
        assert written.wait(60)
        yield
        written.clear()
        assert written.wait(60), "the writer has failed"
    finally:
        end.set()
        thread.join()


def test_a_backup_during_writes_restores_one_moment(
    server: EmbeddedPostgres, release: Release, shop: Shop, target: str
) -> None:
    release.program("pg_dump", DUMP_SNAPSHOT)
    with (
        writing(shop),
        closing(psycopg2.connect(server.url())) as connection,
        connection.cursor() as cursor,
    ):
        connection.set_session(isolation_level="REPEATABLE READ")
        cursor.execute("SELECT pg_export_snapshot()")
        row = cursor.fetchone()
        assert row is not None
        expected = contents(cursor)
        release.back_up(SNAPSHOT=row[0])
    printed = release.run("restore.sh", "url", release.dump(), DATABASE_URL=target)
    accounts, requests = (expected[f"public.{name}"][0] for name in ("users", "usage_events"))
    assert f"{accounts} accounts and {requests} requests, the newest of 20" in printed
    assert f"{accounts} accounts: every balance matches its entries." in printed
    assert "flask payments reconcile" in printed
    assert expected["public.orders"][0] >= 3
    assert contents_of(target) == expected != contents_of(server.url())
    assert schema_of(target) == schema_of(server.url())


def test_payments_made_after_the_backup_are_found(
    server: EmbeddedPostgres, release: Release, shop: Shop, target: str
) -> None:
    user_id = shop.account()
    page = shop.order(user_id)
    printed = release.back_up()
    assert "cannot be recorded" not in printed
    assert recorded_backup(server.url()) == release.dump().name
    shop.stripe.pay(page)
    shop.reconcile()
    assert shop.paid_tokens(user_id) == 25_000_000
    release.run("restore.sh", "url", release.dump(), DATABASE_URL=target)
    restored = create_app(replace(shop.settings, database_url=database_url(target)))
    try:
        copy = Shop(restored, "", shop.stripe, shop.btcpay)
        assert copy.paid_tokens(user_id) == 0
        copy.reconcile()
        assert copy.paid_tokens(user_id) == 25_000_000
        assert not copy.differences()
    finally:
        dispose(restored)


def test_compose_and_differences_in_the_books(
    empty_server: EmbeddedPostgres, release: Release, backup: Path, target: str
) -> None:
    """Both directions, with PostgreSQL's programs run as in the service `db`."""
    host = urlsplit(target).query.removeprefix("host=")
    printed = release.run("restore.sh", "compose", backup, PGHOST=host, DATABASE_URL=target)
    assert "every balance matches its entries." in printed
    execute(target, "UPDATE balances SET paid_tokens = paid_tokens + 1")
    backup.unlink()
    before = contents_of(target)
    release.back_up("compose", PGHOST=host)
    assert recorded_backup(target) == release.dump().name
    second = empty_server.create_database("second")
    printed = release.run("restore.sh", "url", release.dump(), code=3, DATABASE_URL=second)
    assert contents_of(second) == before
    assert "restored, but `flask ledger verify` failed" in printed


def test_a_backup_of_something_else_is_reported(release: Release, target: str) -> None:
    execute(target, "CREATE TABLE precious (id int)")
    release.back_up(DATABASE_URL=target)
    printed = release.run("restore.sh", "url", release.dump(), code=1, DATABASE_URL=target)
    assert printed == "restore.sh: the database is not empty: it has precious, for example\n"
    execute(target, "DROP TABLE precious")
    printed = release.run("restore.sh", "url", release.dump(), code=3, DATABASE_URL=target)
    assert printed.endswith("restored, but it is not a database of promptly\n")


def test_a_damaged_backup_is_refused(release: Release, backup: Path, target: str) -> None:
    content = bytearray(backup.read_bytes())
    content[len(content) // 2] ^= 1
    backup.write_bytes(content)
    printed = release.run("restore.sh", "url", backup, code=1, DATABASE_URL=target)
    assert printed == f"restore.sh: {backup} does not match its checksum\n"
    Path(f"{backup}.sha256").unlink()
    printed = release.run("restore.sh", "url", backup, code=1, DATABASE_URL=target)
    assert printed == f"restore.sh: cannot read its checksum, {backup}.sha256\n"
    assert contents_of(target) == {}


def test_a_failed_restore_leaves_the_database_empty(
    release: Release, backup: Path, target: str
) -> None:
    content = backup.read_bytes()[:-1]
    backup.write_bytes(content)
    Path(f"{backup}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {backup.name}\n")
    printed = release.run("restore.sh", "url", backup, code=1, DATABASE_URL=target)
    assert printed.startswith("restore.sh: pg_restore failed, and the database is as it was: ")
    assert len(printed.splitlines()) == 1
    assert contents_of(target) == {}


def test_a_database_in_use_is_not_overwritten(
    server: EmbeddedPostgres, release: Release, backup: Path
) -> None:
    before = contents_of(server.url())
    printed = release.run("restore.sh", "--migrate", "url", backup, code=1)
    assert printed.startswith("restore.sh: the database is not empty: it has ")
    assert contents_of(server.url()) == before


def test_a_database_that_does_not_answer_is_reported(release: Release, backup: Path) -> None:
    url = "postgresql://gateway:secret@127.0.0.1:1/gateway"
    printed = release.run("restore.sh", "url", backup, code=1, DATABASE_URL=url)
    assert printed.startswith("restore.sh: the database cannot be used: ")
    assert "secret" not in printed and len(printed.splitlines()) == 1


def test_an_older_schema_is_migrated_on_request(
    server: EmbeddedPostgres, release: Release, target: str
) -> None:
    older = server.create_database("older")
    app = create_app(make_settings(database_url=older, log_level="warning"))
    with app.app_context():
        flask_migrate.upgrade(directory=str(PROJECT / "migrations"), revision=OLDER_SCHEMA)
    dispose(app)
    release.back_up(DATABASE_URL=older)
    printed = release.run("restore.sh", "--migrate", "url", release.dump(), DATABASE_URL=target)
    assert f"schema {OLDER_SCHEMA}" in printed
    assert "0 accounts: every balance matches its entries." in printed
    assert schema_of(target) == schema_of(server.url())
