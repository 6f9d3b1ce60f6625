"""Odd bytes in paths, queries, forms and headers of every route: never an answer 500."""

import itertools
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from promptly.secret import Secret
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.run import EXHAUSTIVE
from tests.support import factories
from tests.support.signing import CONFIGURED, encode, snapshot, stripe_headers

ADMIN_KEY = "the-operators-key-0123456789-abcdefgh"
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}

TEXTS = (
    b"\0", b"a\0b", "é".encode(), "²".encode(), "٣".encode(), b"-1", b"0", b"1", b"9" * 19,
    b"9" * 20, b"9" * 4301, b"1e9", b"nan", b"2026-02-30", b"0001-01-01", b"9999-12-31", b"\n",
    b"[", b"%", b"{{x}}", b"a@b\0.example", b"'", b"\xff", b"\xed\xa0\x80",
)  # fmt: skip
# Names that the routes read, and those that mean something to Flask's `url_for`.
ARGUMENTS = (
    "act", "action", "after", "amount", "before", "choice", "dir", "end", "kind", "look",
    "provider", "q", "request_id", "saved", "show", "sort", "start", "state", "token", "user_id",
    "endpoint", "values", "self", "_anchor", "_external", "_method", "_scheme",
)  # fmt: skip
FIELDS = (
    *ARGUMENTS, "amount_minor", "days", "delta", "email", "low_balance_tokens", "method", "name",
    "next", "note", "pack", "reference", "returned_minor", "tokens",
)  # fmt: skip
HEADERS = (
    "Accept", "Accept-Encoding", "Authorization", "BTCPay-Sig", "Content-Encoding", "Content-Type",
    "Cookie", "Forwarded", "Host", "If-Modified-Since", "If-None-Match", "Origin", "Range",
    "Referer", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Stripe-Signature", "User-Agent", "Via",
    "X-CSRFToken", "X-Forwarded-For", "X-Forwarded-Proto", "anthropic-version", "x-api-key",
    "x-request-id",
)  # fmt: skip
# As WSGI has them: bytes in Latin-1.
VALUES = (
    "é", "\xff\xfe", "Bearer é", "Basic \xff", "t=1,v1=é", "sha256=é", "http://[", "[", ",", '"',
    "promptly_session=é; promptly_admin=\xff", "bytes=-", "W/\"", "a..b", "x" * 300,
)  # fmt: skip


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    return app_factory(
        admin_key=Secret(ADMIN_KEY),
        trusted_proxy_hops=1,
        registration_rate_limit=10_000,
        inference_user_rate_limit=10_000,
        **CONFIGURED,
    )


@pytest.fixture
def key(app: Flask) -> str:
    with app.app_context(), transaction():
        user = factories.user("ada@example.com", paid_tokens=1000)
        factories.usage_event(user.id)
        factories.order(user.id)
        return factories.api_key(user.id)[1]


@pytest.fixture
def client(app: Flask, key: str) -> FlaskClient:
    """A client that is signed in to the dashboard and to the panel."""
    client = app.test_client()
    assert client.post("/session", data={"key": key}).status_code == 303
    inside = {"X-Forwarded-For": "127.0.0.1"}
    entered = client.post("/admin/session", data={"key": ADMIN_KEY}, headers=inside)
    assert entered.status_code == 303
    return client


def routes(app: Flask) -> list[tuple[str, Rule]]:
    """Return each method of each route; last those that can end the session."""
    found = [
        (method, rule)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    return sorted(
        found, key=lambda route: route[1].endpoint.endswith(("end_session", "revoke_key"))
    )


def written(rule: Rule, text: bytes) -> str:
    """Return a route's path with an odd text for each of its arguments."""
    parts = [
        quote(text, safe="") if is_dynamic else part
        for is_dynamic, part in rule._trace
        if part != "|"
    ]
    return "".join(parts)


def pairs(names: tuple[str, ...], text: bytes) -> str:
    return "&".join(f"{name}={quote(text, safe='')}" for name in names)


def test_paths_queries_and_forms(app: Flask, client: FlaskClient, key: str) -> None:
    page = client.get("/dashboard").text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    # Valid fields, as the first of their name, let a form get to its others.
    starts = (f"csrf_token={token}", f"csrf_token={token}&user_id=1")
    cases, addresses = itertools.cycle(itertools.product(TEXTS, starts)), itertools.count(1)
    failed = []
    for method, rule in routes(app):
        for text, start in itertools.islice(cases, len(TEXTS) * 2 if EXHAUSTIVE else 3):
            options: dict[str, Any] = {"query_string": pairs(ARGUMENTS, text)}
            if method == "POST":
                options["data"] = f"{start}&{pairs(FIELDS, text)}"
                options["content_type"] = "application/x-www-form-urlencoded"
            # Each request from another one, so that no limit hides the rest.
            address = f"100.64.{'.'.join(map(str, divmod(next(addresses), 250)))}"
            headers = {"X-Forwarded-For": address, "x-api-key": key}
            path = written(rule, text)
            with client.open(path, method=method, headers=headers, **options) as answer:
                if answer.status_code == 500:
                    failed.append((method, path[:80], text[:20]))
    assert failed == []


def test_headers(app: Flask, key: str) -> None:
    event = encode(snapshot())
    requests: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("GET", f"/dashboard?key={key}", {}),
        ("GET", "/docs/", {}),
        ("GET", "/static/promptly.css", {}),
        ("GET", f"/admin?key={ADMIN_KEY}", {}),
        ("GET", "/v1/balance", {"x-api-key": key}),
        ("POST", "/v1/chat/completions", {"x-api-key": key}),
        ("POST", "/session", {}),
        ("POST", "/stripe/webhook", stripe_headers(event)),
        ("POST", "/btcpay/webhook", {}),
    )
    values, addresses = itertools.cycle(VALUES), itertools.count(1)
    failed = []
    for (method, path, headers), name in itertools.product(requests, HEADERS):
        for value in VALUES if EXHAUSTIVE else itertools.islice(values, 1):
            address = f"100.64.{'.'.join(map(str, divmod(next(addresses), 250)))}"
            sent = {"X-Forwarded-For": address, **headers, name: value}
            body = event if method == "POST" else b""
            with app.test_client().open(path, method=method, headers=sent, data=body) as answer:
                if answer.status_code == 500:
                    failed.append((method, path, name, value))
    assert failed == []


@pytest.mark.parametrize(
    "name", ["endpoint", "values", "self", "_anchor", "_external", "_method", "_scheme"]
)
def test_names_of_flask_in_a_query(app: Flask, key: str, name: str) -> None:
    inside = {"X-Forwarded-For": "127.0.0.1", **NAVIGATION}
    for path, given in (("/dashboard", key), ("/admin/users", ADMIN_KEY)):
        client = app.test_client()
        entered = client.get(f"{path}?key={given}&{name}=x", headers=inside)
        assert (entered.status_code, entered.location) == (303, f"{path}?{name}=x")
        assert client.get(entered.location, headers=inside).status_code == 200
