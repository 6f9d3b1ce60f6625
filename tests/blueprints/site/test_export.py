"""The account statement as CSV."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from promptly.blueprints.site import export
from promptly.extensions import db
from promptly.models.states import KeyScope
from promptly.services.accounts import keys
from promptly.services.usage import account_statements
from promptly.transactions import transaction
from tests.blueprints.site.conftest import Visitor
from tests.support import factories


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_it_adds_up_to_the_balance(app: Flask, visitor: Visitor) -> None:
    with app.app_context(), transaction():
        for _ in range(5):
            event = factories.usage_event(visitor.user_id, charged_paid=15, cached_prompt_tokens=6)
            event.key_id = visitor.key_id
    answer = visitor.get("/dashboard/usage.csv")
    assert answer.mimetype == "text/csv"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="promptly-usage-')
    found = rows(answer.text)
    assert tuple(found[0]) == export.COLUMNS
    assert [row["kind"] for row in found].count("usage") == 5
    assert sum(int(row["change"]) for row in found) == 925 == int(found[-1]["balance"])
    assert all(int(r["change"]) == int(r["paid_change"]) + int(r["trial_change"]) for r in found)
    used = next(row for row in found if row["kind"] == "usage")
    assert (used["model"], used["key"], used["prompt_tokens"]) == ("test-model", "default", "10")
    assert (used["cached_prompt_tokens"], found[0]["cached_prompt_tokens"]) == ("6", "")
    assert (used["price"], found[0]["price"]) == ("100:100:100", "")
    path = f"/dashboard/requests/{used['request_id']}"
    assert visitor.get(path).status_code == 200


def test_a_slow_reader_holds_no_connection(
    app: Flask, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "LINES_A_PIECE", 1)
    monkeypatch.setattr(account_statements, "PAGE", 1)
    with app.app_context(), transaction():
        for _ in range(3):
            factories.usage_event(visitor.user_id, charged_paid=15)
    with app.app_context():
        pool: Any = db.engines[None].pool
    with visitor.get("/dashboard/usage.csv") as answer:
        held = [pool.checkedout() for _ in answer.iter_encoded()]
    assert len(held) > 3 and set(held) == {0}


def test_with_a_key_in_the_url(app: Flask, visitor: Visitor) -> None:
    client = app.test_client()
    assert client.get("/dashboard/usage.csv").status_code == 303
    answer = client.get(f"/dashboard/usage.csv?key={visitor.key}")
    assert rows(answer.text)[-1]["balance"] == "1000"
    navigation = {"Sec-Fetch-Mode": "navigate"}
    path = f"/dashboard/usage.csv?start=2026-01-01&key={visitor.key}"
    answer = client.get(path, headers=navigation)
    assert (answer.status_code, answer.location) == (303, "/dashboard/usage.csv?start=2026-01-01")


def test_some_days(app: Flask, visitor: Visitor) -> None:
    with app.app_context(), transaction():
        at = datetime(2030, 1, 1, tzinfo=UTC)
        factories.usage_event(visitor.user_id, created_at=at, charged_paid=15)
    assert len(rows(visitor.get("/dashboard/usage.csv?start=2020-01-01&end=2020-01-31").text)) == 1
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert len(rows(visitor.get(f"/dashboard/usage.csv?start={today}&end={today}").text)) == 2
    for query in ("start=yesterday", "end=2020-13-01", "start=2021-01-01&end=2020-01-01",
                  "start=0001-01-01"):  # fmt: skip
        assert visitor.get(f"/dashboard/usage.csv?{query}").status_code == 400, query


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(app: Flask, visitor: Visitor, text: str) -> None:
    with app.app_context(), transaction():
        event = factories.usage_event(visitor.user_id, model=text, charged_paid=15)
        event.key_id = factories.api_key(visitor.user_id, text)[0].id
    found = rows(visitor.get("/dashboard/usage.csv").text)
    used = next(row for row in found if row["kind"] == "usage")
    assert used["model"] == used["key"] == f"'{text}"
    assert used["change"] == "-15", "numbers stay numbers"


def test_quotes_and_commas(app: Flask, visitor: Visitor) -> None:
    name = 'a "quoted", name'
    with app.app_context(), transaction():
        settings = app.extensions["settings"]
        key, _ = keys.create_named(visitor.user_id, name, settings.key_pepper, scope=KeyScope.FULL)
        factories.usage_event(visitor.user_id).key_id = key.id
    found = rows(visitor.get("/dashboard/usage.csv").text)
    assert name in {row["key"] for row in found}


def test_it_is_streamed(app: Flask, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "LINES_A_PIECE", 2)
    with app.app_context(), transaction():
        for _ in range(9):
            factories.usage_event(visitor.user_id)
    answer = visitor.get("/dashboard/usage.csv", buffered=False)
    assert answer.is_streamed
    assert len(list(answer.iter_encoded())) == 6


def test_other_accounts_are_left_out(app: Flask, visitor: Visitor, other: Visitor) -> None:
    with app.app_context(), transaction():
        factories.usage_event(other.user_id, charged_paid=500)
    found = rows(visitor.get("/dashboard/usage.csv").text)
    assert [row["kind"] for row in found] == ["opening", "adjustment"]
