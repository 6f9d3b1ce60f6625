"""Keys of model-gateway against a real gateway with two workers."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import urllib3

from promptly.services.accounts import keys
from promptly.transactions import transaction
from tests.blueprints.v1.client import Client
from tests.support.books import BooksReader
from tests.support.model_gateway import hashed, new_key
from tests.support.servers import Gateway

# Empty, so that no wrong key has been counted yet.
pytestmark = pytest.mark.usefixtures("redis_url")


@pytest.fixture
def old_key(books: BooksReader) -> str:
    """A key whose account owns a million tokens and has no other key."""
    key = new_key()
    account = books.account()
    with books.app.app_context(), transaction():
        keys.revoke_all(account.user_id)
        keys.add_imported(account.user_id, key[:12], hashed(key, rounds=8))
    return key


def versions(books: BooksReader, key: str) -> list[int]:
    rows = books.rows("SELECT pepper_version FROM api_keys WHERE prefix = :prefix", prefix=key[:12])
    return [row["pepper_version"] for row in rows]


def test_an_old_key_works_at_once_and_in_all_workers(
    gateway: Gateway, books: BooksReader, old_key: str
) -> None:
    client = Client(gateway.url, old_key)
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(partial(client.get, "/v1/balance")) for _ in range(6)]
        answers = [call.result() for call in calls]
    assert [answer.status for answer in answers] == [200] * 6
    assert answers[0].json["paid_tokens"] == 1_000_000
    assert versions(books, old_key) == [1]
    assert client.chat().status == 200
    assert Client(gateway.url, "").call(
        "GET", "/v1/balance", headers={"Authorization": "", "x-api-key": old_key}
    ).status == 200  # fmt: skip


def test_an_old_key_signs_in(gateway: Gateway, books: BooksReader, old_key: str) -> None:
    answer = urllib3.request(
        "POST", f"{gateway.url}/session", fields={"key": f" {old_key} "}, redirect=False
    )
    assert (answer.status, answer.headers["location"]) == (303, "/dashboard")
    assert versions(books, old_key) == [1]
    page = urllib3.request("GET", f"{gateway.url}/dashboard?key={old_key}")
    assert page.status == 200 and old_key[:12] in page.data.decode()


def test_wrong_keys_are_refused_then_limited(gateway: Gateway, old_key: str) -> None:
    client = Client(gateway.url, old_key[:12] + new_key()[12:])
    first = client.get("/v1/balance")
    assert (first.status, first.error["code"]) == (401, "invalid_api_key")
    statuses = [client.get("/v1/balance").status for _ in range(10)]
    assert statuses == [401] * 9 + [429]
    refusal = client.get("/v1/balance")
    assert refusal.error["code"] == "rate_limit_exceeded"
    assert 0 < int(refusal.headers["retry-after"]) <= 60
    form = urllib3.request("POST", f"{gateway.url}/session", fields={"key": client.key})
    assert form.status == 429


def test_no_log_has_the_key(gateway: Gateway, old_key: str) -> None:
    Client(gateway.url, old_key).get("/v1/balance")
    Client(gateway.url, old_key[:-1]).get(f"/v1/balance?key={old_key}")
    urllib3.request("GET", f"{gateway.url}/dashboard?key={old_key}")
    log = gateway.log_text()
    assert "imported key rehashed" in log
    assert old_key[12:] not in log
