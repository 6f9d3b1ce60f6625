"""Each limit of a key, over every route: refused in the shape of its dialect, and allowed."""

from datetime import timedelta
from typing import Any

import pytest

from promptly.clock import utcnow
from promptly.models.states import CapPeriod
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Answer, Client, sim
from tests.blueprints.v1.test_key_caps import set_limits
from tests.blueprints.v1.test_suspension import bodies
from tests.support.books import Account, BooksReader

GENERATING = bodies("tokens=2")
COUNTING: dict[str, dict[str, Any]] = {
    "/v1/messages/count_tokens": {"messages": sim()},
    "/v1/chat/completions/input_tokens": {"messages": sim()},
    "/v1/responses/input_tokens": {"input": "hello"},
}
EMBEDDING: dict[str, dict[str, Any]] = {"/v1/embeddings": {"input": "a"}}
READING = ("/v1/models", "/v1/balance", "/v1/usage", "/v1/queue", "/v1/key")


def check_refusal(answer: Answer, path: str, status: int, code: str, kind: str) -> None:
    """Check an error in the shape of its dialect, which says not to repeat the request."""
    assert (answer.status, answer.headers["x-should-retry"]) == (status, "false"), path
    if path.startswith("/v1/messages"):
        assert answer.json["type"] == "error"
        assert answer.json["error"]["details"] == {"error_code": code}
    else:
        assert (answer.error["code"], answer.error["type"]) == (code, kind)


def test_an_expired_key(client: Client, books: BooksReader, account: Account) -> None:
    set_limits(books, account, expires_at=utcnow() + timedelta(hours=1))
    assert client.chat(messages=sim("tokens=2")).status == 200
    set_limits(books, account, expires_at=utcnow() - timedelta(seconds=1))
    everything = {**GENERATING, **COUNTING, **EMBEDDING}
    for path, body in [*everything.items(), *((path, None) for path in READING)]:
        answer = client.call("GET" if body is None else "POST", path, body)
        check_refusal(answer, path, 401, "invalid_api_key", "invalid_request_error")
        message = answer.json["error"]["message"]
        assert message == "This API key has expired."
    set_limits(books, account, expires_at=None)
    assert client.chat(messages=sim("tokens=2")).status == 200


def test_a_key_from_elsewhere(client: Client, books: BooksReader, account: Account) -> None:
    set_limits(books, account, allowed_addresses=["192.0.2.0/24"])
    everything = {**GENERATING, **COUNTING, **EMBEDDING}
    for path, body in [*everything.items(), *((path, None) for path in READING)]:
        answer = client.call("GET" if body is None else "POST", path, body)
        check_refusal(answer, path, 403, "address_not_allowed", "invalid_request_error")
    set_limits(books, account, allowed_addresses=["192.0.2.0/24", "127.0.0.0/8"])
    for path, body in GENERATING.items():
        assert client.call("POST", path, body).status == 200, path


def test_a_model_that_a_key_may_not_use(
    client: Client, books: BooksReader, account: Account, llama: SimulatedLlama
) -> None:
    set_limits(books, account, allowed_models=["another-model"])
    llama.clear()
    for path, body in {**GENERATING, **COUNTING}.items():
        for model in ("sim-model", "unknown"):
            answer = client.call("POST", path, {**body, "model": model})
            check_refusal(answer, path, 403, "model_not_allowed", "invalid_request_error")
            assert "It may use: another-model." in answer.json["error"]["message"]
    assert llama.requests() == [] and books.events(account) == []
    assert client.get("/v1/models").json["data"] == []
    assert client.get("/v1/models/sim-model").status == 404
    set_limits(books, account, allowed_models=["another-model", "sim-model"])
    for path, body in {**GENERATING, **COUNTING}.items():
        assert client.call("POST", path, {**body, "model": "unknown"}).status == 200, path
    assert [model["id"] for model in client.get("/v1/models").json["data"]] == ["sim-model"]


@pytest.mark.parametrize("path", GENERATING)
def test_a_cap_in_every_dialect(
    client: Client, books: BooksReader, account: Account, path: str
) -> None:
    set_limits(books, account, cap_tokens=10_000, cap_period=CapPeriod.DAY)
    assert client.call("POST", path, {**GENERATING[path], "max_tokens": 20}).status in {200, 400}
    used = sum(event["charged_tokens"] for event in books.events(account))
    set_limits(books, account, cap_tokens=used + 1, cap_period=CapPeriod.DAY)
    for stream in (False, True):
        answer = client.call("POST", path, {**GENERATING[path], "stream": stream})
        check_refusal(answer, path, 402, "key_limit_reached", "insufficient_quota")
        assert "tokens a day" in answer.json["error"]["message"]
    # Counting is free.
    assert client.call("POST", "/v1/messages/count_tokens", {"messages": sim()}).status == 200


def test_the_key_shows_its_limits(client: Client, books: BooksReader, account: Account) -> None:
    free = client.get("/v1/key").json
    assert free == {
        "object": "key",
        "name": "default",
        "prefix": account.key[:12],
        "scope": "full",
        "batch": False,
        "created_at": free["created_at"],
        **dict.fromkeys(("expires_at", "models", "addresses", "concurrent_requests", "cap")),
    }
    answer = client.chat(messages=sim("tokens=5"))
    used = answer.json["usage"]["total_tokens"]
    set_limits(
        books,
        account,
        expires_at=utcnow().replace(year=2999, microsecond=0),
        allowed_models=["sim-model"],
        allowed_addresses=["127.0.0.0/8"],
        concurrent_requests=3,
        cap_tokens=5000,
        cap_period=CapPeriod.MONTH,
    )
    shown = client.get("/v1/key").json
    assert shown["expires_at"].startswith("2999-") and shown["expires_at"].endswith("Z")
    assert (shown["models"], shown["addresses"]) == (["sim-model"], ["127.0.0.0/8"])
    assert shown["concurrent_requests"] == 3
    resets_at = shown["cap"].pop("resets_at")
    assert resets_at.endswith("-01T00:00:00Z")
    assert shown["cap"] == {
        "tokens": 5000,
        "per": "month",
        "used_tokens": used,
        "reserved_tokens": 0,
        "left_tokens": 5000 - used,
    }
    with client.open(CHAT, messages=sim("tokens=3000 delay_ms=20")) as stream:
        stream.read_until(b"finish_reason")
        assert client.get("/v1/key").json["cap"]["reserved_tokens"] > 0
