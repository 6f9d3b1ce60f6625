"""Accounts with limits of their own, above and below the installation's."""

from promptly.services.accounts import account_limits, keys
from promptly.services.accounts.account_limits import LimitChanges
from promptly.services.audit import Operator
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client, sim
from tests.blueprints.v1.conftest import MakeGateway
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway


def set_limits(books: BooksReader, account: Account, changes: LimitChanges) -> None:
    with books.app.app_context(), transaction():
        account_limits.set_limits(account.user_id, changes, operator=Operator("cli:test"))


def second_key(books: BooksReader, account: Account) -> str:
    """Give the account another key and return it."""
    with books.app.app_context(), transaction():
        pepper = books.app.extensions["settings"].key_pepper
        return keys.create(account.user_id, "second", pepper)[1]


def test_rates_of_accounts_replace_those_of_addresses_and_keys(
    make_gateway: MakeGateway, llama: SimulatedLlama, books: BooksReader
) -> None:
    office, slow, usual = (books.account() for _ in range(3))
    set_limits(books, office, {"requests_per_minute": 9})
    set_limits(books, slow, {"requests_per_minute": 2})
    gateway = make_gateway(
        llama.url, workers=2, INFERENCE_IP_RATE_LIMIT=4, INFERENCE_USER_RATE_LIMIT=3
    )
    first = Client(gateway.url, office.key)
    second = Client(gateway.url, second_key(books, office))
    answers = [client.get("/v1/balance") for client in (first,) * 8]
    assert {answer.status for answer in answers} == {200}
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == [
        str(left) for left in range(8, 0, -1)
    ]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "9"
    answer = Client(gateway.url, slow.key).get("/v1/balance")
    assert answer.headers["x-ratelimit-limit-requests"] == "2"
    assert Client(gateway.url, slow.key).get("/v1/balance").status == 200
    assert Client(gateway.url, slow.key).get("/v1/balance").status == 429
    # Ten requests of this address so far, and none used its window.
    answer = Client(gateway.url, usual.key).get("/v1/balance")
    assert answer.status == 200
    assert answer.headers["x-ratelimit-remaining-requests"] == "2"
    assert first.get("/v1/balance").status == 200
    refusal = first.get("/v1/balance")
    assert (refusal.status, refusal.error["code"]) == (429, "rate_limit_exceeded")
    assert "per account" in refusal.error["message"]
    assert 0 < int(refusal.headers["retry-after"]) <= 60
    # The key is newer than the rates that this process has read: its own window counts until then.
    wait_for(lambda: second.get("/v1/balance").status == 429, "one window for both keys")


def test_concurrency_of_accounts(gateway: Gateway, books: BooksReader, account: Account) -> None:
    client = Client(gateway.url, account.key)
    set_limits(books, account, {"concurrent_requests": 1})
    with client.open(messages=sim("tokens=9999 delay_ms=20")) as first:
        first.read_until(b"data: ")
        refusal = client.chat()
        assert (refusal.status, refusal.error["code"]) == (429, "rate_limit_exceeded")
        set_limits(books, account, {"concurrent_requests": 2})
        assert client.chat(messages=sim("tokens=2")).status == 200
    books.wait_for_events(account, 2)
