"""Pages of other origins: preflights and headers on a running gateway, errors included."""

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import CHAT, Answer, Client, sim
from tests.blueprints.v1.conftest import MakeGateway
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

ORIGIN = {"Origin": "https://app.example.com"}
PREFLIGHT = {
    **ORIGIN,
    "Authorization": "",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def allowed(answer: Answer) -> str | None:
    return answer.headers.get("access-control-allow-origin")


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/models/a/b", "/v1/unknown", "/v1"])
def test_a_preflight_needs_no_key(client: Client, path: str) -> None:
    answer = client.call("OPTIONS", path, headers=PREFLIGHT)
    assert (answer.status, answer.body) == (204, b"")
    assert allowed(answer) == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert answer.headers["access-control-max-age"] == "86400"
    assert "content-type" not in answer.headers


def test_other_questions_still_need_one(client: Client) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "", **ORIGIN}):
        assert client.call("OPTIONS", CHAT, headers=headers).status == 401
    page = client.call("OPTIONS", "/", headers=PREFLIGHT)
    assert page.status == 200 and allowed(page) is None


def test_answers_can_be_read(client: Client) -> None:
    for stream in (True, False):
        answer = client.call("POST", CHAT, {"messages": sim(), "stream": stream}, ORIGIN)
        assert (answer.status, allowed(answer)) == (200, "*")
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"x-request-id", "retry-after", "x-promptly-request-id"} <= set(exposed)
        assert {name for name in answer.headers if name.startswith("x-promptly")} <= set(exposed)
    assert allowed(client.chat()) is None


def test_errors_can_be_read(client: Client, gateway: Gateway, books: BooksReader) -> None:
    stranger = Client(gateway.url, "sk-wrong")
    poor = Client(gateway.url, books.account(paid_tokens=0).key)
    large = {**ORIGIN, "Content-Length": "999999999", "Expect": "100-continue"}
    refusals = [
        (client.call("POST", CHAT, b"{", ORIGIN), 400),
        (stranger.call("POST", CHAT, {}, ORIGIN), 401),
        (poor.call("POST", CHAT, {"messages": sim()}, ORIGIN), 402),
        (client.call("GET", "/v1/unknown", headers=ORIGIN), 404),
        (client.call("GET", CHAT, headers=ORIGIN), 405),
        (client.call("POST", CHAT, headers=large), 413),
        (client.call("POST", CHAT, {"messages": sim("status=500")}, ORIGIN), 502),
        (client.call("GET", "/v1/models", headers={**ORIGIN, "Host": "evil.example"}), 400),
        # Refused by gunicorn's parser, before the application.
        (client.call("GET", f"/v1/{'a' * 9000}", headers=ORIGIN), 414),
        (client.call("GET", "/v1/models", headers={**ORIGIN, "x-large": "a" * 20_000}), 431),
    ]
    for answer, status in refusals:
        assert (answer.status, allowed(answer)) == (status, "*")


def test_preflights_count_against_the_address_only(
    make_gateway: MakeGateway, llama: SimulatedLlama, account: Account
) -> None:
    gateway = make_gateway(llama.url, INFERENCE_USER_RATE_LIMIT=1, INFERENCE_IP_RATE_LIMIT=6)
    client = Client(gateway.url, account.key)
    with_key = {**PREFLIGHT, "Authorization": f"Bearer {account.key}"}
    for headers in (PREFLIGHT, with_key, with_key):
        assert client.call("OPTIONS", CHAT, headers=headers).status == 204
    assert client.chat().status == 200
    limited = client.call("POST", CHAT, {"messages": sim()}, ORIGIN)
    assert (limited.status, allowed(limited)) == (429, "*")
    assert "key" in limited.error["message"]
    for _ in range(2):
        client.call("OPTIONS", CHAT, headers=PREFLIGHT)
    refused = client.call("OPTIONS", CHAT, headers=PREFLIGHT)
    assert refused.status == 429


@pytest.mark.parametrize(("origins", "listed"), [("https://App.example.com/", True), ("", False)])
def test_other_origins_can_be_shut_out(
    make_gateway: MakeGateway, llama: SimulatedLlama, account: Account, origins: str, listed: bool
) -> None:
    client = Client(make_gateway(llama.url, CORS_ORIGINS=origins).url, account.key)
    preflight = client.call("OPTIONS", CHAT, headers=PREFLIGHT)
    answer = client.call("POST", CHAT, {"messages": sim()}, ORIGIN)
    expected = ORIGIN["Origin"] if listed else None
    assert (preflight.status, allowed(preflight)) == (204 if listed else 401, expected)
    assert (answer.status, allowed(answer)) == (200, expected)
    assert answer.headers.get("vary") == ("Origin" if listed else None)
    stranger = {**PREFLIGHT, "Origin": "https://evil.example"}
    assert client.call("OPTIONS", CHAT, headers=stranger).status == 401
    # Unknown until the head is parsed, so nothing is allowed.
    long = client.call("GET", f"/v1/{'a' * 9000}", headers=ORIGIN)
    assert (long.status, allowed(long)) == (414, None)
