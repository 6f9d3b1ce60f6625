"""Whole answers of the routes that are served without Flask; written when Flask served them."""

import json
import logging

import pytest
from flask import Flask

from promptly.blueprints import v1
from promptly.blueprints.v1.answers import Answer
from promptly.blueprints.v1.api_request import ApiRequest
from promptly.services.accounts import key_format
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Client, Json, sim
from tests.support.books import BooksReader
from tests.support.raw_http import RawClient
from tests.support.servers import Gateway

# Paths, a good body, and whether a client may stream the answer.
ROUTES: list[tuple[str, Json, bool]] = [
    (CHAT, {"messages": sim("tokens=3")}, True),
    ("/v1/completions", {"prompt": "a", "max_tokens": 3}, True),
    ("/v1/messages", {"messages": sim("tokens=3"), "max_tokens": 9}, True),
    ("/v1/responses", {"input": "a", "max_output_tokens": 16}, True),
    ("/v1/chat/completions/input_tokens", {"messages": sim()}, False),
    ("/v1/messages/count_tokens", {"messages": sim()}, False),
    ("/v1/responses/input_tokens", {"input": "a"}, False),
]
PATHS = [path for path, _, _ in ROUTES] + ["/v1/embeddings"]

SERVER = {"server", "date", "connection"}
STANDING = {
    "x-request-id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
}
WHOLE = SERVER | STANDING | {"content-type", "content-length"}
CHARGED = {"x-promptly-charged-tokens", "x-promptly-balance-tokens"}
STREAMED = {"content-type", "transfer-encoding", "cache-control", "x-accel-buffering"}


def names_of(path: str, *names: str) -> set[str]:
    """Return the headers of an error to a request to this path."""
    return WHOLE | set(names) | ({"request-id"} if "messages" in path else set())


@pytest.mark.parametrize(("path", "body", "metered"), ROUTES)
def test_whole_answers(client: Client, path: str, body: Json, metered: bool) -> None:
    # A query changes nothing.
    answer = client.call("POST", f"{path}?beta=true", body)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["connection"] == "keep-alive"
    further = CHARGED | {"x-promptly-request-id"} if metered else set()
    assert set(answer.headers) == names_of(path, *further)
    if metered:
        assert answer.headers["x-promptly-request-id"] == answer.headers["x-request-id"]
    if "request-id" in answer.headers:
        assert answer.headers["request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(("path", "body", "streams"), ROUTES)
def test_streamed_answers(client: Client, path: str, body: Json, streams: bool) -> None:
    if not streams:
        return
    answer = client.call("POST", path, {**body, "stream": True})
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-cache")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    expected = names_of(path, "x-promptly-request-id") - {"content-length"} | STREAMED
    assert set(answer.headers) == expected


@pytest.mark.parametrize("path", PATHS)
def test_refusals(client: Client, llama: SimulatedLlama, path: str) -> None:
    stranger = {"Authorization": f"Bearer {key_format.generate()}"}
    large = {"Content-Length": "999999999", "Expect": "100-continue"}
    foreign = {"Host": "evil.example"}
    for body, headers, status, further in (
        (b"{", {}, 400, set()),
        (b"[]", {}, 400, set()),
        ({}, foreign, 400, set()),
        ({}, stranger, 401, {"x-should-retry"}),
        ({}, {"Authorization": ""}, 401, {"x-should-retry"}),
        (b"", large, 413, set()),
        (b"{}", {"Content-Encoding": "br"}, 415, {"accept-encoding"}),
    ):
        answer = client.call("POST", path, body, headers)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
        assert set(answer.headers) == names_of(path, *further), (status, body)
        assert ("type" in answer.json) == ("messages" in path)
    assert llama.requests() == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("method", "suffix", "status"),
    [
        ("GET", "", 405),
        ("HEAD", "", 405),
        ("PUT", "", 405),
        ("DELETE", "", 405),
        ("OPTIONS", "", 200),
        ("POST", "/", 404),
        ("POST", "/x", 404),
        ("POST", "%20", 404),
        ("POST", ";x", 404),
    ],
)
def test_other_methods_and_paths(
    client: Client, llama: SimulatedLlama, path: str, method: str, suffix: str, status: int
) -> None:
    answer = client.call(method, path + suffix)
    assert answer.status == status
    assert set(answer.headers) >= STANDING
    if status != 404:
        assert set(answer.headers["allow"].split(", ")) == {"POST", "OPTIONS"}
    assert llama.requests() == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f"POST {CHAT}", 200),
        ("POST /v1/chat%2Fcompletions", 200),
        ("POST /v1/%63hat/completions", 200),
        ("POST /v1//chat/completions", 404),
        ("POST //v1/chat/completions", 404),
        ("POST /V1/chat/completions", 404),
        (f"post {CHAT}", 400),
        (f"POST http://localhost{CHAT}", 200),
    ],
)
def test_spellings(gateway: Gateway, client: Client, line: str, status: int) -> None:
    body = json.dumps({"messages": sim("tokens=2")})
    head = f"Host: localhost\r\nAuthorization: Bearer {client.key}\r\nConnection: close"
    length = f"Content-Length: {len(body)}"
    with RawClient(gateway.port) as raw:
        raw.send(f"{line} HTTP/1.1\r\n{head}\r\n{length}\r\n\r\n{body}".encode())
        assert raw.answer()[0] == status


def test_bodies_in_chunks_and_after_continue(gateway: Gateway, client: Client) -> None:
    body = json.dumps({"messages": sim("tokens=2")}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {client.key}\r\n"
    with RawClient(gateway.port) as raw:
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        raw.send(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
        assert raw.answer()[0] == 200
        # On the same connection.
        more = f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.send(head.encode() + more.encode())
        assert raw.answer()[0] == 100
        raw.send(body)
        status, headers, _ = raw.answer()
        assert (status, headers["connection"]) == (200, "keep-alive")


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
def test_a_bug_is_logged_and_answered(
    app: Flask,
    fresh_database: str,
    redis_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    def fail(_request: ApiRequest) -> Answer:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setitem(v1.POSTED, path, fail)
    books = BooksReader(fresh_database, redis_url)
    headers = books.account().headers
    books.close()
    answer = app.test_client().post(path, headers=headers, json={})
    assert (answer.status_code, answer.content_type) == (500, "application/json")
    assert set(answer.headers.keys()) >= STANDING and "secret" not in answer.text
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError
    assert vars(record)["request_id"] == answer.headers["x-request-id"]
