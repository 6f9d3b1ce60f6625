"""Sessions end on the server: a copied cookie is refused, and so is one of an older release."""

import re
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import make_transient

from promptly.blueprints.site.sessions import start
from promptly.clock import utcnow
from promptly.errors import InvalidKey
from promptly.services import account_deletion
from promptly.services.accounts import keys, sessions
from promptly.settings import current_settings
from promptly.transactions import transaction
from tests.blueprints.site.conftest import Visitor

COOKIE = "promptly_session"
END = re.compile(r'action="(/dashboard/sessions/\d+/end)"')


def copy_of(client: FlaskClient) -> FlaskClient:
    """Return another client with a copy of this one's cookie."""
    cookie = client.get_cookie(COOKIE)
    assert cookie is not None
    copy = client.application.test_client()
    copy.set_cookie(COOKIE, cookie.value)
    return copy


def signed_in(app: Flask, key: str) -> FlaskClient:
    client = app.test_client()
    assert client.post("/session", data={"key": key}).status_code == 303
    return client


def of_older_release(app: Flask, key_id: int, csrf_token: str = "") -> FlaskClient:
    """Return a client with a cookie as releases without sessions on the server set it."""
    client = app.test_client()
    with client.session_transaction() as cookie:
        cookie["key_id"] = key_id
        cookie.permanent = True
        if csrf_token:
            cookie["csrf_token"] = csrf_token
    return client


def status(client: FlaskClient) -> int:
    return client.get("/dashboard").status_code


def test_signing_out_ends_copies_of_the_cookie(visitor: Visitor) -> None:
    copy = copy_of(visitor.client)
    assert status(copy) == 200
    assert visitor.post("/session/end").location == "/"
    assert status(copy) == 303
    assert copy.get("/purchases").status_code == 303


def test_a_session_without_a_row_is_refused(app: Flask, visitor: Visitor) -> None:
    client = app.test_client()
    with client.session_transaction() as cookie:
        cookie["key_id"] = visitor.key_id
        cookie["token"] = "guessed"
    assert status(client) == 303


def test_signing_in_again_ends_the_former_session(visitor: Visitor) -> None:
    copy = copy_of(visitor.client)
    visitor.client.post("/session", data={"key": visitor.key})
    assert status(visitor.client) == 200 and status(copy) == 303


def test_cookies_of_an_older_release_stay_good(app: Flask, visitor: Visitor) -> None:
    first = of_older_release(app, visitor.key_id)
    second = of_older_release(app, visitor.key_id, "a1b2c3")
    copy = copy_of(first)
    assert [status(client) for client in (first, second, copy)] == [200, 200, 200]
    page = first.get("/dashboard").text
    assert page.count("Signed in before an update") == 1
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    later_copy = copy_of(first)
    assert first.post("/session/end", data={"csrf_token": token}).status_code == 303
    # Signing out ends every copy, with and without what pages have added to the cookie.
    for client in (second, copy, later_copy, of_older_release(app, visitor.key_id)):
        assert status(client) == 303
    assert status(visitor.client) == 200
    assert status(signed_in(app, visitor.key)) == 200


def test_a_new_cookie_has_what_the_older_release_reads(visitor: Visitor) -> None:
    with visitor.client.session_transaction() as cookie:
        assert cookie["key_id"] == visitor.key_id and cookie.permanent


def test_they_are_listed_and_ended(app: Flask, visitor: Visitor) -> None:
    other = app.test_client()
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    other.post("/session", data={"key": visitor.key}, headers={"User-Agent": agent})
    page = visitor.get("/dashboard").text
    assert "Firefox on Linux" in page and "127.0.0.0/24" in page
    assert page.count(">this browser<") == 1
    paths = END.findall(page)
    assert len(paths) == 2
    with app.app_context():
        found = {row.browser: row.id for row in sessions.list_open(visitor.user_id)}
    answer = visitor.post(f"/dashboard/sessions/{found['Firefox on Linux']}/end")
    assert answer.location == "/dashboard?saved=session#sessions"
    assert status(other) == 303 and status(visitor.client) == 200
    assert "The session has ended" in visitor.get("/dashboard?saved=session").text
    [own] = END.findall(visitor.get("/dashboard").text)
    assert visitor.post(own).location == "/"
    assert status(visitor.client) == 303


def test_ending_all_others(app: Flask, visitor: Visitor, other: Visitor) -> None:
    clients = [signed_in(app, visitor.key) for _ in range(2)]
    old = of_older_release(app, visitor.key_id)
    answer = visitor.post("/dashboard/sessions/end")
    assert answer.location == "/dashboard?saved=sessions#sessions"
    assert [status(client) for client in (*clients, old)] == [303, 303, 303]
    assert status(visitor.client) == 200 and status(other.client) == 200


def test_ending_all_others_ends_copies_of_an_older_cookie(app: Flask, visitor: Visitor) -> None:
    mine = of_older_release(app, visitor.key_id)
    copy = copy_of(mine)
    assert status(copy) == 200
    page = mine.get("/dashboard").text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    answer = mine.post("/dashboard/sessions/end", data={"csrf_token": token})
    assert answer.location == "/dashboard?saved=sessions#sessions"
    assert [status(client) for client in (copy, visitor.client)] == [303, 303]
    assert status(mine) == 200


def test_a_script_ends_all(app: Flask, visitor: Visitor) -> None:
    answer = app.test_client().post(f"/dashboard/sessions/end?key={visitor.key}")
    assert answer.status_code == 303
    assert status(visitor.client) == 303


def test_those_of_another_account(app: Flask, visitor: Visitor, other: Visitor) -> None:
    [path] = END.findall(other.get("/dashboard").text)
    assert visitor.post(path).status_code == 404
    assert status(other.client) == 200


def test_forms_need_their_token(visitor: Visitor) -> None:
    [path] = END.findall(visitor.get("/dashboard").text)
    for form in (path, "/dashboard/sessions/end"):
        assert visitor.client.post(form).status_code == 400
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert visitor.client.post(form, headers=foreign).status_code == 403
    assert status(visitor.client) == 200


def test_a_reissue_ends_them(app: Flask, visitor: Visitor) -> None:
    old = of_older_release(app, visitor.key_id)
    assert status(old) == 200
    app.test_client().post("/register", data={"email": visitor.email})
    assert status(visitor.client) == 303 and status(old) == 303


def test_a_deletion_overtakes_a_sign_in(app: Flask, visitor: Visitor) -> None:
    with app.test_request_context("/session", method="POST"):
        key = keys.find_active(visitor.key_id)
        assert key is not None
        # So that the row need not be read again once it is gone.
        make_transient(key)
        account_deletion.delete_account(visitor.user_id, current_settings())
        with pytest.raises(InvalidKey):
            start(key)


def test_its_use_is_recorded(app: Flask, visitor: Visitor) -> None:
    with app.app_context(), transaction():
        [row] = sessions.list_open(visitor.user_id)
        before = row.seen_at = utcnow() - timedelta(hours=2)
    assert status(visitor.client) == 200
    with app.app_context():
        [row] = sessions.list_open(visitor.user_id)
        assert row.seen_at > before


def test_another_site_cannot_sign_a_browser_in(app: Flask, visitor: Visitor) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        client = app.test_client()
        answer = client.post("/session", data={"key": visitor.key}, headers=headers)
        assert answer.status_code == 403 and "Set-Cookie" not in answer.headers
