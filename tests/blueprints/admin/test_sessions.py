"""Sessions of the panel: sign-in, cookie attributes, renewal and end."""

from dataclasses import replace
from html import unescape
from http.cookies import Morsel, SimpleCookie

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from promptly.blueprints.admin import sessions, sign_in
from promptly.blueprints.admin.sessions import PanelSession
from promptly.secret import Secret
from promptly.services import audit
from promptly.transactions import transaction
from tests.blueprints.admin.conftest import ADMIN_KEY, NAVIGATION, token_of
from tests.conftest import AppFactory


def cookie_of(answer: TestResponse) -> "Morsel[str]":
    [found] = [
        cookie["promptly_admin"]
        for cookie in map(SimpleCookie, answer.headers.getlist("Set-Cookie"))
        if "promptly_admin" in cookie
    ]
    return found


def carry(client: FlaskClient, session: PanelSession) -> None:
    """Give a client the cookie of an arbitrary session."""
    with client.application.test_request_context():
        answer = client.application.response_class()
        sessions.write(answer, session)
    value = answer.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    client.set_cookie("promptly_admin", value, path="/admin")


def status_with(client: FlaskClient, **changes: int) -> int:
    """Return the panel's status for a session with its timestamps shifted by seconds."""
    with client.application.test_request_context():
        fresh = sessions.start("admin")
    moments = {name: getattr(fresh, name) + seconds for name, seconds in changes.items()}
    carry(client, replace(fresh, **moments))
    return client.get("/admin/users").status_code


def test_a_link_with_the_key_signs_a_browser_in_and_leaves_the_url(script: FlaskClient) -> None:
    answer = script.get(f"/admin?key={ADMIN_KEY}", headers=NAVIGATION)
    assert (answer.status_code, answer.location) == (303, "/admin")
    assert ADMIN_KEY not in str(answer.headers) + answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    page = script.get("/admin")
    assert page.status_code == 200 and ADMIN_KEY not in page.text


def test_the_urls_other_arguments_are_kept(script: FlaskClient) -> None:
    path = f"/admin/users?q=a%26b&key={ADMIN_KEY}&sort=email"
    answer = script.get(path, headers=NAVIGATION)
    assert answer.location == "/admin/users?q=a%26b&sort=email"


def test_a_browser_without_the_newer_headers(script: FlaskClient) -> None:
    # Browsers send no Sec-Fetch-* headers over plain HTTP to another host.
    headers = {"Upgrade-Insecure-Requests": "1"}
    assert script.get(f"/admin?key={ADMIN_KEY}", headers=headers).status_code == 303


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Mode": "cors"}])
def test_others_get_the_page_and_no_cookie(script: FlaskClient, headers: dict[str, str]) -> None:
    answer = script.get(f"/admin/users?key={ADMIN_KEY}", headers=headers)
    assert answer.status_code == 200 and ADMIN_KEY not in answer.text
    assert "promptly_admin" not in str(answer.headers)
    assert script.get("/admin/users").status_code == 403


def test_signing_in_by_the_form(admin_app: Flask, script: FlaskClient) -> None:
    page = script.get("/admin/users")
    assert page.status_code == 403 and 'action="/admin/session"' in page.text
    assert "Set-Cookie" not in page.headers
    wrong = script.post("/admin/session", data={"key": "wrong", "next": "/admin/users"})
    assert wrong.status_code == 403 and "Incorrect key" in wrong.text
    right = script.post("/admin/session", data={"key": f" {ADMIN_KEY}\n", "next": "/admin/users"})
    assert (right.status_code, right.location) == (303, "/admin/users")
    assert script.get("/admin/users").status_code == 200
    with admin_app.app_context(), transaction():
        found = [(row.action, row.actor) for row in audit.entries().rows]
    assert found == [("session.open", "panel:admin"), ("session.refuse", "unknown")]


def wanted(page: TestResponse) -> str:
    """Return the page to which the sign-in form leads."""
    return unescape(page.text.partition('name="next" value="')[2].partition('"')[0])


def test_the_form_leads_to_the_page_of_the_link(script: FlaskClient) -> None:
    """As operators open it from an email."""
    link = "/admin/webhooks?state=parked&after=a%26b"
    page = script.get(link)
    assert wanted(page) == link
    for key, answers in (("wrong", 403), (ADMIN_KEY, 303)):
        page = script.post("/admin/session", data={"key": key, "next": wanted(page)})
        assert page.status_code == answers
    assert page.location == link
    assert script.get(link).status_code == 200


@pytest.mark.parametrize(
    ("opened", "led_to"),
    [
        ("/admin/users?key=&q=x", "/admin/users?q=x"),
        ("/admin/users?q=a%0d%0ab%22%3E", "/admin/users?q=a%0D%0Ab%22%3E"),
        (f"/admin/users?q={'x' * 500}", "/admin/users"),
    ],
)
def test_odd_queries(script: FlaskClient, opened: str, led_to: str) -> None:
    found = wanted(script.get(opened))
    assert found == led_to
    assert sign_in.is_page(found)
    assert script.post("/admin/session", data={"key": ADMIN_KEY, "next": found}).location == led_to


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/admin//evil.example", "/admin/../docs", "",
     "/dashboard", "/admin\\evil", "/admin/users\n", "javascript:alert(1)", "/admin@evil.example",
     "/admin?key=x", "/admin?a=b&%6bey=x", "/admin?a=\r\nSet-Cookie: b", "/admin?a=é", "/admin?a#b",
     "/admin?//evil.example", "/admin??", f"/admin?a={'x' * 500}"],
)  # fmt: skip
def test_signing_in_leads_nowhere_else(target: str) -> None:
    assert not sign_in.is_page(target)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_cookie(script: FlaskClient, scheme: str) -> None:
    base_url = f"{scheme}://localhost"
    answer = script.post("/admin/session", data={"key": ADMIN_KEY}, base_url=base_url)
    cookie = cookie_of(answer)
    assert cookie["path"] == "/admin" and cookie["samesite"] == "Strict"
    assert cookie["httponly"] and bool(cookie["secure"]) is (scheme == "https")
    assert 0 < int(cookie["max-age"]) <= 30 * 60
    # The cookie works over the scheme that set it.
    assert script.get("/admin/users", base_url=base_url).status_code == 200
    assert ADMIN_KEY not in cookie.value


def test_behind_a_proxy_the_cookie_is_secure_too(app_factory: AppFactory) -> None:
    client = app_factory(admin_key=Secret(ADMIN_KEY), trusted_proxy_hops=1).test_client()
    for proto in ("https", "http"):
        headers = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": proto}
        answer = client.post("/admin/session", data={"key": ADMIN_KEY}, headers=headers)
        assert bool(cookie_of(answer)["secure"]) is (proto == "https")


def test_it_ends_when_idle_and_in_any_case(script: FlaskClient) -> None:
    assert status_with(script) == 200
    assert status_with(script, seen_at=-29 * 60) == 200
    assert status_with(script, seen_at=-31 * 60) == 403
    assert status_with(script, opened_at=-7 * 3600) == 200
    assert status_with(script, opened_at=-9 * 3600) == 403


def test_it_is_renewed_while_in_use(script: FlaskClient) -> None:
    with script.application.test_request_context():
        session = sessions.start("admin")
    carry(script, session)
    assert "promptly_admin" not in str(script.get("/admin/audit").headers)
    carry(script, replace(session, seen_at=session.seen_at - 300))
    answer = script.get("/admin/audit")
    headers = {"Cookie": f"promptly_admin={cookie_of(answer).value}"}
    with script.application.test_request_context(headers=headers):
        renewed = sessions.current()
    assert renewed is not None
    assert renewed.opened_at == session.opened_at and renewed.seen_at >= session.seen_at


def test_another_key_ends_it(app_factory: AppFactory) -> None:
    before = app_factory(admin_key=Secret(ADMIN_KEY)).test_client()
    answer = before.post("/admin/session", data={"key": ADMIN_KEY})
    for secrets in (
        {"admin_key": Secret("another-key-0123456789-abcdefghijkl")},
        {"admin_key": Secret(ADMIN_KEY), "gateway_secret_key": Secret("another" * 6)},
        {"admin_key": Secret("")},
    ):
        client = app_factory(**secrets).test_client()
        client.set_cookie("promptly_admin", cookie_of(answer).value, path="/admin")
        assert client.get("/admin/users").status_code == 403


def test_signing_out_ends_copies_of_the_cookie(admin_app: Flask, panel: FlaskClient) -> None:
    copy = admin_app.test_client()
    copied = panel.get_cookie("promptly_admin", path="/admin")
    assert copied is not None
    copy.set_cookie("promptly_admin", copied.value, path="/admin")
    page = copy.get("/admin/users")
    assert page.status_code == 200
    assert panel.post("/admin/session/end").status_code == 400, "not without the form's token"
    token = token_of(panel.get("/admin/users").text)
    answer = panel.post("/admin/session/end", data={"csrf_token": token})
    assert (answer.status_code, answer.location) == (303, "/admin")
    assert panel.get("/admin/users").status_code == 403
    assert copy.get("/admin/users").status_code == 403


def test_signing_out_outlives_redis(admin_app: Flask, panel: FlaskClient, redis_url: str) -> None:
    copied = panel.get_cookie("promptly_admin", path="/admin")
    assert copied is not None
    token = token_of(panel.get("/admin/users").text)
    panel.post("/admin/session/end", data={"csrf_token": token})
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    copy = admin_app.test_client()
    copy.set_cookie("promptly_admin", copied.value, path="/admin")
    assert copy.get("/admin/users").status_code == 403


@pytest.mark.parametrize("value", ["", "x", "WyJhIiwxLDFd.aaaa", "a.b.c", "\x7f", "é" * 300])
def test_forged_cookies(script: FlaskClient, value: str) -> None:
    script.set_cookie("promptly_admin", value, path="/admin")
    assert script.get("/admin/users").status_code == 403


def test_a_link_on_another_site_gets_through(panel: FlaskClient, script: FlaskClient) -> None:
    # Browsers withhold a SameSite=Strict cookie here; a refresh from our own page sends it.
    from_mail = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}
    assert script.get("/admin/users", headers=from_mail).headers["Refresh"] == "0"
    own = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
    assert "Refresh" not in script.get("/admin/users", headers=own).headers
    assert "Refresh" not in panel.get("/admin/users", headers=from_mail).headers


def test_the_dashboards_session_opens_nothing_here(admin_app: Flask, script: FlaskClient) -> None:
    with script.session_transaction() as session:
        session["key_id"] = 1
    assert script.get("/admin/users").status_code == 403
