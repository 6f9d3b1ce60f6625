"""Suspended accounts: refused on every route, running requests end settled, resumed at once."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from promptly.services.accounts import account_limits
from promptly.services.audit import Operator
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Client, sim
from tests.conftest import AppFactory
from tests.support.books import Account, BooksReader, wait_for

CLI = Operator("cli:test")
MESSAGE = "This account is suspended. Its balance is kept. Ask the operator."

# Of the shared `llama`.
SLOTS = 4

tags = (f"suspended{number}" for number in itertools.count())


def suspend(books: BooksReader, account: Account) -> None:
    with books.app.app_context(), transaction():
        account_limits.suspend(account.user_id, operator=CLI)


def resume(books: BooksReader, account: Account) -> None:
    with books.app.app_context(), transaction():
        account_limits.resume(account.user_id, operator=CLI)


def bodies(directives: str = "") -> dict[str, dict[str, Any]]:
    """Return the body of a request to each route that generates text."""
    text = sim(directives)[0]["content"]
    return {
        CHAT: {"messages": sim(directives)},
        "/v1/completions": {"prompt": text, "max_tokens": 100_000},
        "/v1/responses": {"input": text},
        "/v1/messages": {"max_tokens": 100_000, "messages": sim(directives)},
    }


def test_every_route_refuses_it_until_it_is_resumed(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    suspend(books, account)
    requests: list[tuple[str, str, Any]] = [
        *(("POST", path, body) for path, body in bodies().items()),
        ("POST", "/v1/embeddings", {"input": "a"}),
        ("POST", "/v1/messages/count_tokens", {"messages": sim()}),
        *(("GET", f"/v1/{name}", None) for name in ("models", "balance", "usage")),
    ]
    for method, path, body in requests:
        answer = client.call(method, path, body)
        assert (answer.status, answer.headers["x-should-retry"]) == (403, "false"), path
        if path.startswith("/v1/messages"):
            assert answer.json["type"] == "error"
            assert answer.json["error"] == {
                "type": "permission_error",
                "message": MESSAGE,
                "details": {"error_code": "account_suspended"},
            }
        else:
            assert answer.error == {
                "message": MESSAGE,
                "type": "invalid_request_error",
                "param": None,
                "code": "account_suspended",
            }
    assert llama.requests() == [] and books.events(account) == []
    # A wrong key learns nothing about the account.
    assert Client(client.url, f"{account.key[:-1]}_").get("/v1/balance").status == 401
    resume(books, account)
    # Repeated to reach both workers.
    assert {client.get("/v1/balance").status for _ in range(6)} == {200}
    assert client.chat(messages=sim("tokens=2")).status == 200


def test_the_message_names_the_address_for_questions(
    app_factory: AppFactory, fresh_database: str, redis_url: str
) -> None:
    books = BooksReader(fresh_database, redis_url)
    account = books.account()
    suspend(books, account)
    books.close()
    app = app_factory(support_email="help@example.com")
    answer = app.test_client().get("/v1/balance", headers=account.headers)
    assert answer.status_code == 403 and answer.json is not None
    assert answer.json["error"]["message"].endswith("Write to help@example.com.")


def test_its_streams_end_with_an_error_and_are_charged(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    tag = next(tags)
    slow = bodies(f"tokens=100000 delay_ms=5 tag={tag}")
    with ThreadPoolExecutor(len(slow)) as pool:
        streams = {
            path: pool.submit(client.call, "POST", path, {**body, "stream": True})
            for path, body in slow.items()
        }
        wait_for(lambda: len(llama.requests(tag)) == len(slow), "all upstream")
        suspend(books, account)
        answers = {path: stream.result(20) for path, stream in streams.items()}
    for path, answer in answers.items():
        assert answer.status == 200
        last = answer.parts[-1]
        # Responses have a list of codes that SDKs know.
        code = "invalid_prompt" if path == "/v1/responses" else "account_suspended"
        assert f'"{code}"' in last and MESSAGE in last, path
        assert "[DONE]" not in last
    assert '"permission_error"' in answers["/v1/messages"].parts[-1]
    events = books.wait_for_events(account, len(slow))
    assert {event["outcome"] for event in events} == {"account_suspended"}
    for event in events:
        assert event["charged_tokens"] == event["prompt_tokens"] + event["completion_tokens"] > 0
    assert sum(event["completion_tokens"] for event in events) > 0
    wait_for(lambda: llama.totals()["processing"] == 0, "all slots free")
    assert books.differences() == []


def test_requests_that_wait_end_without_a_charge(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    other = Client(client.url, books.account().key)
    with ExitStack() as running, ThreadPoolExecutor(1) as pool:
        for _ in range(SLOTS):
            stream = running.enter_context(other.open(messages=sim("tokens=100000 delay_ms=20")))
            stream.read_until(b"content")
        whole = pool.submit(client.chat)
        wait_for(lambda: books.open_holds(account) == 1, "a request in the queue")
        suspend(books, account)
        answer = whole.result(20)
    assert (answer.status, answer.error["code"]) == (403, "account_suspended")
    [event] = books.wait_for_events(account, 1)
    assert (event["outcome"], event["charged_tokens"]) == ("account_suspended", 0)
    wait_for(lambda: llama.totals()["processing"] == 0, "all slots free")
