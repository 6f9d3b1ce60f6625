"""Caps of keys through a running gateway: refused, ended in the middle of an answer, counted."""

from typing import Any, cast

import pytest

from promptly.models.states import CapPeriod
from promptly.services.accounts import key_limits
from promptly.services.accounts.key_limits import KeyLimitChanges
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client, sim
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

ANSWER = 40


def set_limits(books: BooksReader, account: Account, **changes: Any) -> key_limits.KeyLimits:
    with books.app.app_context(), transaction():
        wanted = cast(KeyLimitChanges, changes)
        return key_limits.set_limits(account.user_id, account.key_id, wanted)[1]


def set_cap(books: BooksReader, account: Account, tokens: int) -> None:
    set_limits(books, account, cap_tokens=tokens, cap_period=CapPeriod.MONTH)


MESSAGES = sim("tokens=500")


@pytest.fixture
def prompt(gateway: Gateway, books: BooksReader) -> int:
    """Size of MESSAGES in tokens."""
    measured = Client(gateway.url, books.account().key).chat(messages=MESSAGES, max_tokens=1)
    size: int = measured.json["usage"]["prompt_tokens"]
    return size


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_at_the_cap(
    client: Client, books: BooksReader, account: Account, prompt: int, stream: bool
) -> None:
    set_cap(books, account, prompt + ANSWER)
    if stream:
        events = client.stream(messages=MESSAGES, stream_options={"include_usage": True}).events
        finish, usage = events[-2]["choices"][0]["finish_reason"], events[-1]["usage"]
    else:
        answer = client.chat(messages=MESSAGES).json
        finish, usage = answer["choices"][0]["finish_reason"], answer["usage"]
    assert (finish, usage["completion_tokens"]) == ("length", ANSWER)
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == prompt + ANSWER
    assert event["uncharged_tokens"] == 0
    assert client.chat().error["code"] == "key_limit_reached"


def test_a_stream_that_grows_to_the_cap(
    growing_gateway: Gateway, books: BooksReader, account: Account, prompt: int
) -> None:
    """Its outcome says that the key ended it: the balance would have covered more."""
    set_cap(books, account, prompt + 203)
    client = Client(growing_gateway.url, account.key)
    answer = client.stream(messages=MESSAGES, stream_options={"include_usage": True})
    assert answer.events[-2]["choices"][0]["finish_reason"] == "length"
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "key_limit_reached"
    assert (event["charged_tokens"], event["uncharged_tokens"]) == (prompt + 203, 0)


def test_a_key_without_room_is_refused_before_anything_is_counted(
    client: Client, books: BooksReader, account: Account, llama: SimulatedLlama
) -> None:
    set_cap(books, account, 1)
    llama.clear()
    answer = client.chat()
    assert (answer.status, answer.error["code"]) == (402, "key_limit_reached")
    assert answer.error["type"] == "insufficient_quota"
    assert answer.headers["x-should-retry"] == "false"
    assert llama.requests() == []
    assert books.events(account) == []


def test_another_key_of_the_account_goes_on(
    client: Client, gateway: Gateway, books: BooksReader, account: Account
) -> None:
    set_cap(books, account, 1)
    other = Client(gateway.url, books.key(account).key)
    assert other.chat().status == 200
    set_limits(books, account, cap_tokens=None, cap_period=None)
    assert client.chat().status == 200


def test_requests_of_a_key_at_a_time(client: Client, books: BooksReader, account: Account) -> None:
    set_limits(books, account, concurrent_requests=1)
    with client.open(messages=sim("tokens=2000 delay_ms=20"), stream=True) as stream:
        stream.read_until(b"finish_reason")
        refused = client.chat()
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert "This key already runs 1 requests" in refused.error["message"]
        assert int(refused.headers["retry-after"]) > 0
    books.wait_for_events(account, 1)
    assert client.chat().status == 200
