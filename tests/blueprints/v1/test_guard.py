"""Authentication, limits, and the errors and headers shared by all routes of /v1."""

import re
from typing import Any

import pytest
import urllib3

from promptly.proxies import plain_address
from promptly.services.accounts import key_format
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Client, sim
from tests.blueprints.v1.conftest import MakeGateway
from tests.conftest import AppFactory
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

# Agents look for parts of it, and then shorten the conversation.
TOO_LONG = re.compile(
    r"The prompt is too long: (at least )?\d+ tokens > (\d+) maximum\. "
    r"This model's maximum context length is \2 tokens\."
)

ROUTES = [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/balance"), ("GET", "/v1/usage")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer sk-short"},
        {"Authorization": f"Bearer {key_format.generate()}"},
        {"Authorization": f"Basic {key_format.generate()}"},
        {"Authorization": "", "x-api-key": key_format.generate()},
    ],
    ids=["none", "empty", "short", "unknown", "basic", "x-api-key"],
)
def test_without_a_good_key(
    gateway: Gateway, llama: SimulatedLlama, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = Client(gateway.url, "").call(method, path, {"messages": sim()}, headers)
    assert answer.status == 401
    assert answer.error["code"] == "invalid_api_key"
    assert answer.error["type"] == "invalid_request_error"
    assert answer.headers["x-should-retry"] == "false"
    assert "x-ratelimit-limit-requests" in answer.headers
    assert llama.requests() == []


def test_a_revoked_key_is_refused_at_once(
    gateway: Gateway, books: BooksReader, account: Account
) -> None:
    client = Client(gateway.url, account.key)
    assert client.get("/v1/balance").status == 200
    books.rows("UPDATE api_keys SET revoked_at = now() WHERE id = :id", id=account.key_id)
    # Repeated to reach both workers.
    assert {client.get("/v1/balance").status for _ in range(10)} == {401}
    assert client.chat().status == 401


def test_unknown_urls_and_methods(client: Client, llama: SimulatedLlama) -> None:
    for method, path in (
        ("GET", "/v1"),
        ("GET", "/v1/"),
        ("POST", "/v1/tokenize"),
        ("GET", "/v1/x"),
    ):
        answer = client.call(method, path)
        assert (answer.status, answer.error["code"]) == (404, "unknown_url")
        assert path in answer.error["message"]
        assert "x-ratelimit-limit-requests" in answer.headers
    for method, path in (
        ("GET", CHAT),
        ("PUT", CHAT),
        ("POST", "/v1/models"),
        ("DELETE", "/v1/balance"),
    ):
        answer = client.call(method, path)
        assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"]
    assert llama.requests() == []


@pytest.mark.parametrize(
    "path", ["/v1/stream", "/v1/chat/completions/control", "/v1/../slots", "/v1/props"]
)
def test_upstreams_other_routes_are_not_reachable(client: Client, path: str) -> None:
    for method in ("GET", "POST"):
        assert client.call(method, path, {}).status == 404


def test_every_answer_has_an_id_of_its_own(client: Client) -> None:
    answers = [client.get("/v1/models"), client.get("/v1/x"), client.chat(), client.chat(n=2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 4
    assert all(len(found) == 36 and found.startswith("req_") for found in ids)


def test_limits_by_key_and_their_headers(
    make_gateway: MakeGateway, llama: SimulatedLlama, books: BooksReader
) -> None:
    gateway = make_gateway(llama.url, workers=2, INFERENCE_USER_RATE_LIMIT=3)
    client, other = (Client(gateway.url, books.account().key) for _ in range(2))
    for remaining in (2, 1, 0):
        answer = client.chat(messages=sim("tokens=2"))
        assert answer.status == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        assert answer.headers["x-ratelimit-remaining-requests"] == str(remaining)
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    refusal = client.chat()
    assert refusal.status == 429
    assert refusal.error["code"] == "rate_limit_exceeded"
    assert 50 <= int(refusal.headers["retry-after"]) <= 60
    assert refusal.headers["x-ratelimit-remaining-requests"] == "0"
    assert other.get("/v1/balance").status == 200
    assert len(llama.requests()) == 3


def test_limits_by_address_come_before_the_key(
    make_gateway: MakeGateway, llama: SimulatedLlama, account: Account
) -> None:
    gateway = make_gateway(llama.url, INFERENCE_IP_RATE_LIMIT=4)
    stranger = Client(gateway.url, "sk-wrong")
    assert [stranger.get("/v1/models").status for _ in range(5)] == [401] * 4 + [429]
    assert "address" in stranger.get("/v1/models").error["message"]
    assert Client(gateway.url, account.key).chat().status == 429


def test_as_many_requests_at_once_as_allowed(
    make_gateway: MakeGateway, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    gateway = make_gateway(llama.url, MAX_CONCURRENT_REQUESTS=2)
    client = Client(gateway.url, account.key)
    with (
        client.open(messages=sim("tokens=9999 delay_ms=20")) as first,
        client.open(messages=sim("tokens=9999 delay_ms=20")) as second,
    ):
        first.read_until(b"data: ")
        second.read_until(b"data: ")
        refusal = client.chat()
        assert refusal.status == 429
        assert refusal.error["code"] == "rate_limit_exceeded"
        assert int(refusal.headers["retry-after"]) <= 60
        assert Client(gateway.url, books.account().key).chat().status == 200
    books.wait_for_events(account, 2)
    assert client.chat().status == 200


def test_a_trial_runs_fewer_requests_at_once(
    make_gateway: MakeGateway, llama: SimulatedLlama, books: BooksReader
) -> None:
    gateway = make_gateway(llama.url, MAX_CONCURRENT_REQUESTS=2, TRIAL_CONCURRENT_REQUESTS=1)
    trial = books.account(paid_tokens=0, trial_tokens=100_000)
    paying = books.account(paid_tokens=100_000, trial_tokens=100_000)
    for account, second in ((trial, 429), (paying, 200)):
        client = Client(gateway.url, account.key)
        with client.open(messages=sim("tokens=9999 delay_ms=20")) as first:
            first.read_until(b"data: ")
            answer = client.chat()
            assert answer.status == second
        books.wait_for_events(account, 1 + (second == 200))
        if second == 429:
            assert answer.error["code"] == "rate_limit_exceeded"
    # Its own number applies to a trial as well, even beyond that of paying accounts.
    books.rows("UPDATE users SET concurrent_requests = 3 WHERE id = :id", id=trial.user_id)
    client = Client(gateway.url, trial.key)
    with (
        client.open(messages=sim("tokens=9999 delay_ms=20")) as first,
        client.open(messages=sim("tokens=9999 delay_ms=20")) as second_stream,
    ):
        first.read_until(b"data: ")
        second_stream.read_until(b"data: ")
        assert client.chat(messages=sim("tokens=2")).status == 200
    books.wait_for_events(trial, 4)


def test_an_empty_balance(gateway: Gateway, llama: SimulatedLlama, books: BooksReader) -> None:
    client = Client(gateway.url, books.account(paid_tokens=0).key)
    for streamed in (True, False):
        answer = client.chat(stream=streamed)
        assert answer.status == 402
        assert (answer.error["type"], answer.error["code"]) == ("insufficient_quota",) * 2
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        assert "/dashboard" in answer.error["message"]
    assert llama.requests() == []


def test_tokens_that_other_requests_hold(
    make_gateway: MakeGateway, llama: SimulatedLlama, books: BooksReader
) -> None:
    gateway = make_gateway(llama.url)
    account = books.account(paid_tokens=500)
    client = Client(gateway.url, account.key)
    with client.open(messages=sim("tokens=100 delay_ms=50")) as running:
        running.read_until(b"data: ")
        refusal = client.chat()
        assert refusal.status == 429
        assert refusal.error["code"] == "tokens_reserved"
        assert int(refusal.headers["retry-after"]) <= 60
    books.wait_for_events(account, 1)


def test_nothing_upstream_says_in_an_error_is_passed_on(
    client: Client, llama: SimulatedLlama
) -> None:
    for status, expected in ((400, 400), (500, 502), (404, 502), (401, 502)):
        answer = client.chat(messages=sim(f"status={status}"))
        assert answer.status == expected
        assert "simulated" not in answer.error["message"]
    assert client.get("/v1/balance").json["reserved_tokens"] == 0
    assert client.get("/v1/balance").json["paid_tokens"] == 1_000_000


@pytest.mark.parametrize("streamed", [True, False])
def test_a_prompt_beyond_the_context(client: Client, streamed: bool) -> None:
    answer = client.chat(messages=sim("tokens=1", text="word " * 40_000), stream=streamed)
    assert answer.status == 400
    assert answer.error["code"] == "context_length_exceeded"
    assert answer.error["param"] == "messages"
    assert TOO_LONG.fullmatch(answer.error["message"])
    assert client.get("/v1/balance").json["paid_tokens"] == 1_000_000


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": sim()}, "messages"),
        ("/v1/responses", {"input": "a"}, "input"),
        ("/v1/completions", {"prompt": "a"}, "prompt"),
        ("/v1/completions", {"prompt": ["a", "a"]}, "prompt[1]"),
    ],
)
@pytest.mark.parametrize("words", [10_000, 1_700_000])
def test_every_route_has_the_same_words_for_it(
    narrow_gateway: Gateway,
    account: Account,
    path: str,
    body: dict[str, Any],
    param: str,
    words: int,
) -> None:
    """Also where the bytes alone show that the prompt is too long, so that nobody counts it."""
    client = Client(narrow_gateway.url, account.key)
    text = "word" * words
    name, value = next(iter(body.items()))
    if isinstance(value, list):
        last = {"role": "user", "content": text} if name == "messages" else text
        value = [*value[:-1], last]
    else:
        value = text
    answer = client.call("POST", path, {name: value})
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert answer.error["param"] == param
    found = TOO_LONG.fullmatch(answer.error["message"])
    assert found is not None
    assert (bool(found[1]), found[2]) == (words > 1_000_000, "2048")


def test_no_header_changes_where_links_lead(gateway: Gateway) -> None:
    """Documents are rendered once for all clients, and not every proxy drops such a header."""
    for path in ("//evil.example/docs/", "/docs/"):
        url = f"{gateway.url}{path}"
        answer = urllib3.request("GET", url, headers={"SCRIPT_NAME": "//evil.example"}, timeout=10)
        assert (answer.status, b"evil" in answer.data) == (200 if path == "/docs/" else 404, False)


def test_the_network_of_a_client_is_determined_once(
    app_factory: AppFactory, fresh_database: str, redis_url: str
) -> None:
    books = BooksReader(fresh_database, redis_url)
    headers = {**books.account().headers, "X-Forwarded-For": "1.2.3.4"}
    books.close()
    app = app_factory(trusted_proxy_hops=1, max_connections_per_address=0)
    before = plain_address.cache_info()
    # The body is read, which counts for the network too.
    assert app.test_client().post(CHAT, headers=headers, json={}).status_code == 400
    after = plain_address.cache_info()
    assert after.hits + after.misses == before.hits + before.misses + 1
