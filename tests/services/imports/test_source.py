"""model-gateway's database, read from PostgreSQL."""

from collections.abc import Iterator
from datetime import date
from traceback import format_exception
from uuid import uuid4

import flask_migrate
import psycopg2
import pytest
from flask import Flask
from sqlalchemy import make_url

from promptly.errors import InvalidRequest
from promptly.services.imports import schema, source
from promptly.services.imports.source import SourceAccount
from tests.conftest import AppFactory
from tests.support import model_gateway
from tests.support.databases import Databases
from tests.support.model_gateway import ModelGatewayDatabase

FAR = date(2100, 1, 1)


@pytest.fixture
def old(databases: Databases) -> Iterator[ModelGatewayDatabase]:
    with model_gateway.temporary(databases) as database:
        yield database


def read(url: str, before: date = FAR) -> list[SourceAccount]:
    with source.opened(url) as gateway:
        return list(gateway.accounts(before))


def full_account(number: int) -> SourceAccount:
    return model_gateway.account(
        number,
        balance_tokens=-7 * number,
        trials=[model_gateway.trial(5)],
        purchases=[model_gateway.purchase(f"cs_{number}"), model_gateway.purchase(f"in_{number}")],
        usage=[model_gateway.usage(9), model_gateway.usage(8, model="another")],
    )


def test_everything_is_read_in_batches(
    old: ModelGatewayDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = [full_account(number) for number in range(1, 6)]
    old.add(*accounts)
    old.run("UPDATE users SET api_key_hash = NULL, api_key_prefix = NULL WHERE id = 5")
    monkeypatch.setattr(source, "BATCH", 2)
    found = read(old.url)
    assert [one.id for one in found] == ["1", "2", "3", "4", "5"]
    for expected, one in zip(accounts[:4], found, strict=False):
        assert (one.email, one.key_hash, one.key_prefix, one.balance_tokens, one.created_at) == (
            expected.email, expected.key_hash, expected.key_prefix, expected.balance_tokens,
            expected.created_at,
        )  # fmt: skip
        assert one.trials == expected.trials
        assert list(one.purchases) == expected.purchases
        assert sorted(one.usage, key=lambda row: row.day) == expected.usage
    assert (found[4].key_hash, found[4].key_prefix) == (None, None)


def test_usage_is_grouped_by_day_in_utc_and_model(old: ModelGatewayDatabase) -> None:
    old.add(model_gateway.account())
    old.run("ALTER TABLE usage_events ALTER timestamp TYPE timestamptz USING timestamp")
    old.run(
        'INSERT INTO usage_events (user_id, "timestamp", input_tokens, output_tokens, model)'
        " VALUES (1, %s, %s, %s, %s)",
        [
            ("2025-05-01 23:59:59+00", 1, 10, "m"),
            ("2025-05-02 01:59:59+02", 2, 20, "m"),
            ("2025-05-02 00:00:00+00", 4, None, None),
            ("2025-05-03 00:00:00+00", 8, 80, "m"),
        ],
    )
    [account] = read(old.url, before=date(2025, 5, 3))
    found = [(row.day.day, row.model, row.requests, row.prompt_tokens, row.completion_tokens)
             for row in account.usage]  # fmt: skip
    assert found == [(1, "m", 2, 3, 30), (2, "unknown", 1, 4, 0)]


def test_ids_may_be_uuids(databases: Databases) -> None:
    with model_gateway.temporary(databases, "uuid") as old:
        number = str(uuid4())
        old.add(model_gateway.account(id=number, trials=[model_gateway.trial(5)]))
        [account] = read(old.url)
        assert (account.id, account.trials[0].tokens) == (number, 5)


def test_nothing_can_be_written(old: ModelGatewayDatabase) -> None:
    with (
        source.opened(old.url) as gateway,
        gateway._connection.cursor() as cursor,
        pytest.raises(psycopg2.errors.ReadOnlySqlTransaction),
    ):
        cursor.execute("DELETE FROM users")


def test_urls_of_other_drivers(old: ModelGatewayDatabase) -> None:
    old.add(model_gateway.account())
    for scheme in ("postgresql+asyncpg", "postgresql+psycopg2", "postgresql"):
        url = make_url(old.url).set(drivername=scheme)
        assert len(read(url.render_as_string(hide_password=False))) == 1
    assert len(read(old.url.replace("postgresql://", "postgres://"))) == 1
    arguments = source.connection_arguments(
        "postgresql+asyncpg://me:secret@db:5433/old?ssl=require"
    )
    assert {name: arguments[name] for name in ("user", "password", "host", "port", "dbname")} == {
        "user": "me", "password": "secret", "host": "db", "port": 5433, "dbname": "old",
    }  # fmt: skip
    assert arguments["sslmode"] == "require" and "ssl" not in arguments


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://x/y", "sqlite:///x", "postgresql://me:sec@ret:word@db:1/old"]
)
def test_other_urls(url: str) -> None:
    with pytest.raises(InvalidRequest, match="postgresql://") as refusal:
        read(url)
    assert "ret:word" not in "".join(format_exception(refusal.value))


def test_a_server_that_is_away() -> None:
    with pytest.raises(InvalidRequest, match="cannot be opened") as refusal:
        read("postgresql://me:secret@127.0.0.1:1/old")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("DROP TABLE trial_tokens", "trial_tokens"),
        ("ALTER TABLE users DROP api_key_hash", "api_key_hash"),
        ("ALTER TABLE token_purchases DROP payment_ref, DROP tokens_added",
         "payment_ref, tokens_added"),
    ],
)  # fmt: skip
def test_another_schema_is_named(old: ModelGatewayDatabase, change: str, named: str) -> None:
    old.run(change)
    with pytest.raises(InvalidRequest, match=named):
        read(old.url)


def test_promptlys_own_database_is_refused(fresh_database: str) -> None:
    with pytest.raises(InvalidRequest, match="a database of promptly"):
        read(fresh_database)


def test_the_schema_is_not_put_into_its_database(
    old: ModelGatewayDatabase, app_factory: AppFactory, project: object
) -> None:
    app: Flask = app_factory(database_url=old.url)
    with app.app_context(), pytest.raises(SystemExit) as refusal:
        flask_migrate.upgrade(directory=f"{project}/migrations")
    assert refusal.value.code == schema.BELONGS_TO_MODEL_GATEWAY
    with psycopg2.connect(old.url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert cursor.fetchone() == (5,)
    connection.close()
