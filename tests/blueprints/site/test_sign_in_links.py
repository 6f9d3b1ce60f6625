"""Links with a key: a browser that is signed in to another account is asked first."""

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import func, select

from promptly.blueprints.site import sign_in_links
from promptly.clock import utcnow
from promptly.extensions import db
from promptly.models import DashboardSession
from promptly.services.accounts import keys
from promptly.transactions import transaction
from tests.blueprints.site.conftest import Visitor

NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}


def open_link(visitor: Visitor, key: str) -> str | None:
    answer = visitor.get(f"/dashboard?key={key}", headers=NAVIGATION)
    assert answer.status_code == 303
    return answer.location


def shown(visitor: Visitor) -> str:
    return "ada" if "ada@example.com" in visitor.get("/dashboard").text else "eve"


def switch(visitor: Visitor, key_id: int) -> str | None:
    return visitor.post("/session/switch", "/session/switch", key_id=str(key_id)).location


def test_another_accounts_link_asks_first(visitor: Visitor, other: Visitor) -> None:
    assert open_link(visitor, other.key) == "/session/switch"
    page = visitor.get("/session/switch")
    assert page.status_code == 200 and page.headers["Cache-Control"] == "no-store"
    assert visitor.email in page.text and other.email in page.text
    cookie = visitor.client.get_cookie("promptly_session")
    assert cookie is not None and other.key not in page.text + cookie.value
    assert shown(visitor) == "ada", "nothing has changed yet"
    assert switch(visitor, other.key_id) == "/dashboard"
    assert shown(visitor) == "eve"
    assert visitor.get("/session/switch").location == "/dashboard"


def test_the_former_session_ends(app: Flask, visitor: Visitor, other: Visitor) -> None:
    open_link(visitor, other.key)
    switch(visitor, other.key_id)
    with app.app_context():
        open_ones = select(func.count()).where(
            DashboardSession.user_id == visitor.user_id, DashboardSession.ended_at.is_(None)
        )
        assert db.session.scalar(open_ones) == 0


def test_the_answer_needs_its_token(visitor: Visitor, other: Visitor) -> None:
    open_link(visitor, other.key)
    form = {"key_id": str(other.key_id)}
    assert visitor.client.post("/session/switch", data=form).status_code == 400
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert visitor.client.post("/session/switch", data=form, headers=foreign).status_code == 403
    assert shown(visitor) == "ada"


def test_only_the_link_that_was_shown(visitor: Visitor, other: Visitor) -> None:
    assert visitor.get("/session/switch").location == "/dashboard"
    open_link(visitor, other.key)
    answer = visitor.post("/session/switch", "/session/switch", key_id=str(other.key_id + 1))
    assert answer.status_code == 200 and other.email in answer.text
    assert shown(visitor) == "ada"


def test_a_link_opened_long_ago_or_revoked(
    app: Flask, visitor: Visitor, other: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_link(visitor, other.key)
    later = utcnow() + timedelta(seconds=sign_in_links.CONFIRM_SECONDS + 1)
    with monkeypatch.context() as patch:
        patch.setattr(sign_in_links, "utcnow", lambda: later)
        assert visitor.get("/session/switch").location == "/dashboard"
    assert visitor.get("/session/switch").status_code == 200
    with app.app_context(), transaction():
        keys.revoke_all(other.user_id)
    assert visitor.get("/session/switch").location == "/dashboard"


def test_the_same_account_and_scripts_are_not_asked(visitor: Visitor, other: Visitor) -> None:
    assert open_link(visitor, visitor.key) == "/dashboard"
    assert shown(visitor) == "ada"
    answer = visitor.get(f"/dashboard?key={other.key}")
    assert answer.status_code == 200 and other.email in answer.text
    assert shown(visitor) == "ada"


def test_a_form_with_a_key_in_its_url_asks_too(visitor: Visitor, other: Visitor) -> None:
    headers = NAVIGATION | {"Sec-Fetch-Site": "same-origin"}
    page = visitor.get("/dashboard").text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    answer = visitor.client.post(
        f"/dashboard/keys?key={other.key}",
        data={"csrf_token": token, "name": "x"},
        headers=headers,
    )
    assert answer.location == "/session/switch"
    assert shown(visitor) == "ada"
