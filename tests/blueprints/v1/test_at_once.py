"""The statement that places a hold looks up the key of a customer who was seen before."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, sim
from tests.blueprints.v1.conftest import MakeGateway
from tests.blueprints.v1.test_suspension import suspend
from tests.support.books import Account, BooksReader
from tests.support.raw_http import RawClient
from tests.support.servers import Gateway

BODY = json.dumps({"messages": sim("tokens=2")}).encode()
MALFORMED = b'{"messages": '
REVOKE = "UPDATE api_keys SET revoked_at = now() WHERE id = :id"


@pytest.fixture
def alone(make_gateway: MakeGateway, llama: SimulatedLlama, account: Account) -> Gateway:
    """A gateway with one worker, which has seen the account."""
    gateway = make_gateway(llama.url, workers=1)
    assert post(gateway, account, BODY)[0] == 200
    llama.clear()
    return gateway


def head(account: Account, length: int, *, headers: str = "") -> bytes:
    return (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {account.key}\r\n"
        f"{headers}Content-Length: {length}\r\n\r\n"
    ).encode()


def post(
    gateway: Gateway, account: Account, body: bytes, *, headers: str = ""
) -> tuple[int, str | None]:
    """Send headers and body together; return the status, and the code of an error."""
    with RawClient(gateway.port) as client:
        client.send(head(account, len(body), headers=headers) + body)
        status, _, answer = client.answer()
        return status, json.loads(answer).get("error", {}).get("code")


@contextmanager
def without_look_up(books: BooksReader) -> Iterator[None]:
    """Break the statement that only looks a key up."""
    books.rows("ALTER FUNCTION authenticate RENAME TO authenticate_away")
    try:
        yield
    finally:
        books.rows("ALTER FUNCTION authenticate_away RENAME TO authenticate")


def test_a_customer_seen_before_needs_no_other_look_up(
    alone: Gateway, books: BooksReader, account: Account
) -> None:
    with without_look_up(books):
        assert post(alone, account, BODY) == (200, None)
        # Another customer does, and so does an error, which is only for those with a valid key.
        assert post(alone, books.account(), BODY)[0] == 500
        assert post(alone, account, MALFORMED)[0] == 500
        zipped = gzip.compress(BODY)
        assert post(alone, account, zipped, headers="Content-Encoding: gzip\r\n")[0] == 500
    assert post(alone, account, MALFORMED)[0] == 400
    first, second = books.wait_for_events(account, 2)
    assert first["charged_tokens"] == second["charged_tokens"] > 0


def test_a_revoked_key_is_refused_whatever_it_asks_for(
    alone: Gateway, books: BooksReader, llama: SimulatedLlama, account: Account
) -> None:
    books.rows(REVOKE, id=account.key_id)
    unknown_model = json.dumps({"messages": sim(), "model": "no-such-model", "n": 2}).encode()
    for body in (MALFORMED, unknown_model, BODY, MALFORMED):
        assert post(alone, account, body) == (401, "invalid_api_key")
    assert llama.requests() == []
    assert not books.open_holds(account)


def test_a_revoked_key_is_refused_before_its_body_arrives(
    alone: Gateway, books: BooksReader, account: Account
) -> None:
    books.rows(REVOKE, id=account.key_id)
    with RawClient(alone.port) as client:
        client.send(head(account, len(BODY)))
        assert client.answer()[0] == 401


def test_a_suspended_account_is_refused_whatever_it_asks_for(
    alone: Gateway, books: BooksReader, llama: SimulatedLlama, account: Account
) -> None:
    suspend(books, account)
    for body in (MALFORMED, BODY):
        assert post(alone, account, body) == (403, "account_suspended")
    assert llama.requests() == []


def test_a_balance_that_does_not_reach_is_refused_as_ever(
    alone: Gateway, books: BooksReader, account: Account
) -> None:
    [row] = books.rows("SELECT paid_tokens FROM balances WHERE user_id = :id", id=account.user_id)
    for paid_tokens, code in ((0, "insufficient_quota"), (row["paid_tokens"], None)):
        books.rows(
            "UPDATE balances SET paid_tokens = :paid WHERE user_id = :id",
            paid=paid_tokens,
            id=account.user_id,
        )
        assert post(alone, account, BODY)[1] == code
