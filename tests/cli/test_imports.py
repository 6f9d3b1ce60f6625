"""flask import: a database of model-gateway, brought over whole, and the commands around it."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import make_url, text

from promptly.extensions import db
from promptly.services.imports.outcome import Reason
from promptly.transactions import transaction
from tests.blueprints.v1.client import Client
from tests.conftest import AppFactory
from tests.run import EXHAUSTIVE
from tests.support import factories, model_gateway
from tests.support.databases import Databases
from tests.support.model_gateway import ModelGatewayDatabase
from tests.support.stack import Stack

ACCOUNTS = 1000 if EXHAUSTIVE else 120

# When an import last ran is all that a second one changes.
CHANGES = {"sweep_states"}


def flask(app: Flask, *arguments: str, code: int = 0) -> Result:
    result = app.test_cli_runner().invoke(args=list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def bring(app: Flask, url: str, *options: str) -> Any:
    return json.loads(flask(app, "import", "model-gateway", url, "--json", *options).stdout)


@pytest.fixture
def old(databases: Databases) -> Iterator[ModelGatewayDatabase]:
    with model_gateway.temporary(databases) as database:
        yield database


def fingerprint(url: str) -> dict[str, str]:
    """Return a hash of each table's rows."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        found = {}
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t")
            row = cursor.fetchone()
            assert row is not None
            found[table] = row[0]
        return found


def filled(old: ModelGatewayDatabase, keys: list[str]) -> dict[str, tuple[int, int]]:
    """Store an account for each key; return the balances by address that promptly should have."""
    accounts, expected = [], {}
    for number, key in enumerate(keys, start=1):
        account = model_gateway.account(
            number,
            key=key,
            # The first as in reality, which takes 0.2 s.
            rounds=12 if number == 1 else 4,
            balance_tokens=number * 37 % 5000 - 100,
            trials=[model_gateway.trial(number, days) for days in (-1, 2, 5)[: number % 4]],
            purchases=[
                model_gateway.purchase(f"cs_test_{number}_{count}")
                for count in range(max(number % 8 - 5, 0))
            ],
            usage=[model_gateway.usage(days) for days in range(5, 5 + max(number % 8 - 5, 0))],
        )
        accounts.append(account)
        running = max(number % 4 - 1, 0)
        expected[account.email] = (max(account.balance_tokens, 0), running * number)
    old.add(*accounts)
    return expected


def balances(app: Flask) -> dict[str, tuple[int, int]]:
    query = "SELECT email, paid_tokens, trial_tokens FROM users JOIN balances ON user_id = id"
    with app.app_context(), transaction():
        return {row[0]: (row[1], row[2]) for row in db.session.execute(text(query))}


@pytest.mark.slow
def test_a_whole_gateway(
    app: Flask, fresh_database: str, redis_url: str, old: ModelGatewayDatabase, tmp_path: Path
) -> None:
    keys = [model_gateway.new_key() for _ in range(ACCOUNTS)]
    expected = filled(old, keys)
    report = bring(app, old.url)
    assert (report["imported"], report["keys"], report["left_out"]) == (ACCOUNTS, ACCOUNTS, 0)
    assert balances(app) == expected
    negative = [number for number in range(1, ACCOUNTS + 1) if number * 37 % 5000 < 100]
    assert [row["reason"] for row in report["listed"]] == ["negative_balance"] * len(negative)
    assert json.loads(flask(app, "ledger", "verify", "--json").stdout)["clean"]

    before = fingerprint(fresh_database)
    again = bring(app, old.url)
    assert (again["unchanged"], again["listed"]) == (ACCOUNTS, report["listed"])
    after = fingerprint(fresh_database)
    assert {table for table in after if after[table] != before[table]} <= CHANGES

    with Stack(tmp_path, database_url=fresh_database, redis_url=redis_url) as stack:
        gateway = stack.gateway()
        for number in (1, 2, 3, ACCOUNTS // 2, ACCOUNTS):
            answer = Client(gateway.url, keys[number - 1]).get("/v1/balance")
            paid, trial = expected[f"old{number}@example.com"]
            assert answer.status == 200
            assert (answer.json["paid_tokens"], answer.json["trial_tokens"]) == (paid, trial)
    assert json.loads(flask(app, "ledger", "verify", "--json").stdout)["clean"]


def test_a_dry_run_reports_the_same_and_changes_nothing(
    app: Flask, fresh_database: str, old: ModelGatewayDatabase
) -> None:
    filled(old, [model_gateway.new_key() for _ in range(8)])
    old.add(model_gateway.account(9, email="Old1+x@example.com"))
    before = fingerprint(fresh_database)
    foreseen = bring(app, old.url, "--dry-run")
    assert fingerprint(fresh_database) == before
    made = bring(app, old.url)
    assert made | {"dry_run": True} == foreseen
    assert made["imported"] == 9
    assert made["listed"][-1]["reason"] == "same_mailbox"


def test_operators_find_every_reason(project: Path) -> None:
    document = (project / "docs" / "operating" / "moving-over.md").read_text()
    assert {reason for reason in Reason if f"| `{reason}` |" not in document} == set()


def test_a_table_for_people(app: Flask, old: ModelGatewayDatabase) -> None:
    old.add(model_gateway.account(balance_tokens=-5))
    lines = flask(app, "import", "model-gateway", old.url).stdout.splitlines()
    assert lines[0].split() == ["imported", "1"]
    assert lines[-1].split() == [
        "1", "old1@example.com", "negative_balance", "-5", "tokens,", "imported", "as", "0",
    ]  # fmt: skip


def test_what_is_refused(
    app: Flask, app_factory: AppFactory, fresh_database: str, old: ModelGatewayDatabase
) -> None:
    def refused(app: Flask, url: str) -> str:
        return flask(app, "import", "model-gateway", url, code=1).stderr

    asyncpg = make_url(fresh_database).set(drivername="postgresql+asyncpg")
    itself = refused(app, asyncpg.render_as_string(hide_password=False))
    assert "a database of promptly" in itself
    assert "cannot be opened" in refused(app, "postgresql://127.0.0.1:1/x")
    # promptly's own DATABASE_URL still names the old database.
    assert "Create a new database" in refused(app_factory(database_url=old.url), old.url)


def test_the_doctor_recognises_the_database(
    app_factory: AppFactory, old: ModelGatewayDatabase
) -> None:
    app = app_factory(database_url=old.url)
    findings = json.loads(flask(app, "doctor", "--json", code=1).stdout)["findings"]
    [found] = [item for item in findings if item["check"] in {"PostgreSQL", "Migrations"}]
    assert found["level"] == "error" and "model-gateway" in found["message"]


def test_trials_are_recorded_for_accounts_of_earlier_versions(app: Flask) -> None:
    with app.app_context(), transaction():
        for number in range(3):
            factories.user(f"Early{number}+x@example.com")
    foreseen = json.loads(flask(app, "trials", "backfill", "--dry-run", "--json").stdout)
    assert foreseen == {"recorded": 3, "dry_run": True}
    for recorded in (3, 0):
        made = json.loads(flask(app, "trials", "backfill", "--json").stdout)
        assert made == {"recorded": recorded, "dry_run": False}
    flask(app, "users", "create", "early1@example.com")
    shown = json.loads(flask(app, "users", "show", "early1@example.com", "--json").stdout)
    assert shown["trial_tokens"] == 0
