from datetime import UTC, datetime, timedelta

import pytest

from tests.blueprints.v1.client import Client
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway


def test_a_balance_with_a_trial(gateway: Gateway, books: BooksReader) -> None:
    account = books.account(paid_tokens=50, trial_tokens=30)
    balance = Client(gateway.url, account.key).get("/v1/balance").json
    expires = datetime.fromisoformat(balance.pop("trial_expires_at"))
    assert timedelta(days=6) < expires - datetime.now(UTC) < timedelta(days=8)
    assert balance == {
        "object": "balance",
        "available_tokens": 80,
        "trial_tokens": 30,
        "paid_tokens": 50,
        "reserved_tokens": 0,
    }


def test_usage_is_empty_at_first(client: Client) -> None:
    assert client.get("/v1/usage").json == {"object": "list", "data": []}


def test_usage_of_chosen_days(client: Client) -> None:
    assert client.chat().status == 200
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    [day] = client.get(f"/v1/usage?start={yesterday}&end={today}").json["data"]
    assert day["date"] == today.isoformat()
    assert client.get(f"/v1/usage?start={yesterday}&end={yesterday}").json["data"] == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("start=yesterday", "start"),
        ("end=2026-13-01", "end"),
        ("start=2026-02-02&end=2026-02-01", "start"),
        ("start=2020-01-01&end=2026-01-01", "start"),
        ("start=", "start"),
        ("start=9999-99-99", "start"),
    ],
)
def test_invalid_days(client: Client, query: str, param: str) -> None:
    answer = client.get(f"/v1/usage?{query}")
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize("day", ["0001-01-01", "1999-12-31", "3000-01-01", "9999-12-31"])
def test_days_outside_the_calendar(client: Client, day: str) -> None:
    for query in (f"start={day}&end={day}", f"end={day}"):
        answer = client.get(f"/v1/usage?{query}")
        assert (answer.status, answer.error["param"]) == (400, "end")


@pytest.mark.parametrize(
    "request_id",
    ["", "x", "req_" + "0" * 32, "req_" + "f" * 32, "req_" + "g" * 32, "%00", "%C3%BC", "%FF"],
)
def test_receipts_that_are_not_there(client: Client, request_id: str) -> None:
    answer = client.get(f"/v1/usage?request_id={request_id}")
    assert (answer.status, answer.error["param"]) == (404, "request_id")


def test_a_receipt_is_for_its_account_alone(
    client: Client, gateway: Gateway, books: BooksReader
) -> None:
    request_id = client.chat().headers["x-promptly-request-id"]
    other: Account = books.account()
    assert client.get(f"/v1/usage?request_id={request_id}").status == 200
    assert Client(gateway.url, other.key).get(f"/v1/usage?request_id={request_id}").status == 404
