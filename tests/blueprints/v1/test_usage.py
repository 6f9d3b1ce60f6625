from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from tests.blueprints.v1.client import Client
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway


def test_usage_is_empty_at_first(client: Client) -> None:
    assert client.get("/v1/usage").json == {"object": "list", "data": []}


def test_usage_of_chosen_days(client: Client) -> None:
    assert client.chat().status == 200
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    [day] = client.get(f"/v1/usage?start={yesterday}&end={today}").json["data"]
    assert day["date"] == today.isoformat()
    assert client.get(f"/v1/usage?start={yesterday}&end={yesterday}").json["data"] == []


def test_usage_by_groups(client: Client) -> None:
    charged = [client.get(f"/v1/usage?request_id={chat(client)}").json["charged_tokens"]] * 2
    chat(client)
    [model] = [item["id"] for item in client.get("/v1/models").json["data"]]
    [by_key] = client.get("/v1/usage?group_by=key").json["data"]
    assert client.key.startswith(by_key["key"]["prefix"])
    assert (by_key["requests"], by_key["charged_tokens"]) == (2, sum(charged))
    for query in ("group_by=model,outcome,endpoint", "group_by=model&group_by=outcome,%20endpoint"):
        [row] = client.get(f"/v1/usage?{query}").json["data"]
        assert not {"date", "key"} & row.keys()
        assert (row["model"], row["endpoint"], row["outcome"]) == (
            model, "chat.completions", "completed",
        )  # fmt: skip
    for chosen in (by_key["key"]["name"], by_key["key"]["prefix"]):
        [day] = client.get(f"/v1/usage?key={chosen}&model={model}").json["data"]
        assert (day["date"], day["requests"]) == (datetime.now(UTC).date().isoformat(), 2)
    assert client.get("/v1/usage?model=another").json == {"object": "list", "data": []}


def chat(client: Client) -> str:
    """Return the id of a request that has ended."""
    return client.chat().headers["x-promptly-request-id"]


@pytest.mark.parametrize("query", ["group_by=", "group_by=day,week", "group_by=key&group_by=x"])
def test_unknown_groups(client: Client, query: str) -> None:
    answer = client.get(f"/v1/usage?{query}")
    assert (answer.status, answer.error["param"]) == (400, "group_by")


def test_a_key_of_nobody_is_refused_and_not_repeated(
    client: Client, gateway: Gateway, books: BooksReader
) -> None:
    other = books.account()
    for key in (other.key, "nobody's", ""):
        answer = client.get(f"/v1/usage?key={quote(key)}")
        assert (answer.status, answer.error["param"]) == (404, "key")
        assert not key or key not in answer.error["message"]


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
