from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from promptly.blueprints.site.dashboard import remaining
from promptly.models import User
from promptly.services.accounts import keys
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support import factories

NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}


@pytest.fixture
def raw_key(app: Flask) -> str:
    with app.app_context(), transaction():
        user = factories.user("ada@example.com", paid_tokens=25_000_000, trial_tokens=100_000)
        factories.usage_event(
            user.id,
            prompt_tokens=1200,
            cached_prompt_tokens=1111,
            completion_tokens=34,
            charged_paid=1234,
        )
        factories.hold(user.id, held_paid=4096)
        return factories.api_key(user.id)[1]


def sign_in(client: FlaskClient, raw_key: str) -> None:
    assert client.post("/session", data={"key": f" {raw_key}\n"}).location == "/dashboard"


def token_of(page: str) -> str:
    return page.split('name="csrf_token" value="')[1].split('"')[0]


def test_the_dashboard_shows_the_account(client: FlaskClient, raw_key: str) -> None:
    sign_in(client, raw_key)
    answer = client.get("/dashboard")
    page = answer.get_data(as_text=True)
    for text in ("ada@example.com", "25,094,670", "24,998,766", "100,000", "4,096", "7 days left",
                 "1,200", "1,234", "test-model", raw_key[:12]):  # fmt: skip
        assert text in page, text
    # Of today, 7 and 30 days, and of the request.
    assert page.count('<small><span class="number">1,111</span> cached</small>') == 4
    assert raw_key not in page
    assert " style=" not in page and "<script>" not in page and "onclick" not in page
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_suspended_account_sees_why_its_keys_are_refused(
    app_factory: AppFactory, raw_key: str
) -> None:
    app = app_factory(support_email="help@example.com")
    client = app.test_client()
    # Signing in stays possible.
    with app.app_context(), transaction() as session:
        [user] = session.query(User)
        user.suspended_at = datetime.now(UTC)
    sign_in(client, raw_key)
    for path in ("/dashboard", "/dashboard/requests", "/purchases"):
        page = client.get(path).text
        assert "This account is suspended" in page and "mailto:help@example.com" in page, path
    with app.app_context(), transaction() as session:
        [user] = session.query(User)
        user.suspended_at = None
    assert "suspended" not in client.get("/dashboard").text


def test_without_a_session(client: FlaskClient) -> None:
    answer = client.get("/dashboard")
    assert (answer.status_code, answer.location) == (303, "/")


def test_an_empty_account(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), transaction():
        raw = factories.api_key(factories.user().id)[1]
    sign_in(client, raw)
    assert "No requests yet" in client.get("/dashboard").get_data(as_text=True)


def test_the_title_is_the_one_that_operators_checks_look_for(
    client: FlaskClient, raw_key: str
) -> None:
    assert "<title>Dashboard</title>" in client.get(f"/dashboard?key={raw_key}").text


def test_a_key_in_the_url_signs_a_browser_in_and_leaves_the_url(
    client: FlaskClient, raw_key: str
) -> None:
    answer = client.get(f"/dashboard?key={raw_key}", headers=NAVIGATION)
    assert (answer.status_code, answer.location) == (303, "/dashboard")
    assert client.get("/dashboard").status_code == 200


def test_a_key_in_the_url_gives_others_the_page_and_no_cookie(
    client: FlaskClient, raw_key: str
) -> None:
    answer = client.get(f"/dashboard?key={raw_key}")
    assert answer.status_code == 200 and "ada@example.com" in answer.get_data(as_text=True)
    assert "Set-Cookie" not in answer.headers
    assert client.get("/dashboard").status_code == 303


def test_a_wrong_key(client: FlaskClient) -> None:
    for headers in ({}, NAVIGATION):
        assert client.get("/dashboard?key=sk-wrong", headers=headers).status_code == 401
    answer = client.post("/session", data={"key": "sk-wrong"})
    assert answer.status_code == 401 and "not valid" in answer.get_data(as_text=True)
    assert client.get("/dashboard").status_code == 303


def test_wrong_keys_are_throttled_and_right_ones_are_not(client: FlaskClient, raw_key: str) -> None:
    statuses = {client.post("/session", data={"key": "no"}).status_code for _ in range(25)}
    assert statuses == {401, 429}
    assert client.get("/dashboard?key=no").status_code == 429
    sign_in(client, raw_key)


def test_signing_out_needs_the_forms_token(client: FlaskClient, raw_key: str) -> None:
    sign_in(client, raw_key)
    page = client.get("/dashboard").get_data(as_text=True)
    assert client.post("/session/end").status_code == 400
    assert client.get("/dashboard").status_code == 200
    answer = client.post("/session/end", data={"csrf_token": token_of(page)})
    assert (answer.status_code, answer.location) == (303, "/")
    assert client.get("/dashboard").status_code == 303
    assert client.post("/session/end").status_code == 303


def test_revoking_the_key_ends_its_session(app: Flask, client: FlaskClient, raw_key: str) -> None:
    sign_in(client, raw_key)
    with app.app_context(), transaction():
        key = keys.find(raw_key, app.extensions["settings"].key_pepper)
        assert key is not None
        keys.revoke(key.user_id, key.id)
    assert client.get("/dashboard").status_code == 303


def test_a_forged_session_is_none(client: FlaskClient) -> None:
    client.set_cookie("promptly_session", "eyJrZXlfaWQiOjF9.aaaa.bbbb")
    assert client.get("/dashboard").status_code == 303


@pytest.mark.parametrize(
    ("hops", "forwarded", "scheme", "secure"),
    [
        (0, None, "http", False),
        (0, None, "https", True),
        (0, "https", "http", False),
        (1, "https", "http", True),
        (1, "http", "http", False),
        (2, "https", "http", True),
        (2, "https, http", "http", True),
        (1, "https, http", "http", False),
    ],
)
def test_the_cookie_is_secure_when_the_client_came_by_https(
    app_factory: AppFactory, hops: int, forwarded: str | None, scheme: str, secure: bool
) -> None:
    app = app_factory(trusted_proxy_hops=hops)
    with app.app_context(), transaction():
        raw = factories.api_key(factories.user().id)[1]
    headers = {"X-Forwarded-Proto": forwarded} if forwarded else {}
    answer = app.test_client().post(
        "/session", data={"key": raw}, headers=headers, base_url=f"{scheme}://localhost"
    )
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert ("Secure" in cookie) is secure
    assert ("Strict-Transport-Security" in answer.headers) is secure


@pytest.mark.parametrize("path", ["/", "/register", "/nowhere", "/register/confirm"])
def test_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy and "base-uri 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


def test_the_landing_page(client: FlaskClient) -> None:
    answer = client.get("/")
    page = answer.get_data(as_text=True)
    for text in ("Create an account", "Already have a key?", "$0.50", "$2.00", "$6.00",
                 "100,000,000", "/v1/chat/completions"):  # fmt: skip
        assert text in page
    assert "Set-Cookie" not in answer.headers


def test_trial_countdown() -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    expected = {
        timedelta(days=7) - timedelta(seconds=1): "7 days left",
        timedelta(days=6, hours=11): "6 days left",
        timedelta(days=2): "2 days left",
        timedelta(days=1, hours=23): "47 hours left",
        timedelta(days=1): "24 hours left",
        timedelta(minutes=119): "119 minutes left",
        timedelta(minutes=1): "1 minute left",
        timedelta(seconds=20): "ending now",
    }
    for left, words in expected.items():
        assert remaining((now + left).isoformat(), now) == words
    assert remaining(None, now) is None
