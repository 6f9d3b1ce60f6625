"""Limits, suspending and resuming: by scripts with the key, and in the panel."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from promptly.transactions import transaction
from tests.blueprints.admin.conftest import ADMIN_KEY
from tests.blueprints.admin.panel import Panel
from tests.support import factories

FIELDS = {
    *("user_id", "email", "paid_tokens", "trial_tokens", "trial_expires_at", "applied_delta"),
    *("requests_per_minute", "concurrent_requests", "suspended_at"),
}


@pytest.fixture
def user_id(admin_app: Flask) -> int:
    with admin_app.app_context(), transaction():
        return factories.user("ada@example.com", paid_tokens=1000).id


def post(client: FlaskClient, path: str, **fields: object) -> Any:
    return client.post(f"/admin/{path}", data={"key": ADMIN_KEY, **fields})


def test_a_script_sets_limits(script: FlaskClient, pages: Panel, user_id: int) -> None:
    answer = post(
        script, "limit", email="ada@example.com", requests_per_minute="600", concurrent_requests=20
    )
    assert (answer.status_code, set(answer.json)) == (200, FIELDS)
    assert (answer.json["requests_per_minute"], answer.json["concurrent_requests"]) == (600, 20)
    assert (answer.json["paid_tokens"], answer.json["applied_delta"]) == (1000, 0)
    # A field that is left out stays, an empty one becomes the default.
    answer = post(script, "limit", user_id=user_id, concurrent_requests=" ")
    assert (answer.json["requests_per_minute"], answer.json["concurrent_requests"]) == (600, None)
    assert pages.audited() == [
        (
            "account.limit",
            user_id,
            None,
            {"requests_per_minute": None, "concurrent_requests": None},
            {"requests_per_minute": 600, "concurrent_requests": 20},
        ),
        (
            "account.limit",
            user_id,
            None,
            {"concurrent_requests": 20},
            {"concurrent_requests": None},
        ),
    ]


def test_a_script_suspends_and_resumes(script: FlaskClient, admin_app: Flask, user_id: int) -> None:
    with admin_app.app_context(), transaction():
        raw = factories.api_key(user_id)[1]
    bearer = {"Authorization": f"Bearer {raw}"}
    first = post(script, "suspend", email="ada@example.com")
    assert (first.status_code, set(first.json)) == (200, FIELDS)
    assert first.json["suspended_at"].endswith("Z") and first.json["paid_tokens"] == 1000
    assert post(script, "suspend", user_id=user_id).json == first.json
    assert script.get("/v1/balance", headers=bearer).status_code == 403
    for _ in range(2):
        assert post(script, "resume", user_id=user_id).json["suspended_at"] is None
    assert script.get("/v1/balance", headers=bearer).status_code == 200


WRONG: list[tuple[str, dict[str, Any], int, str | None]] = [
    ("limit", {"user_id": "ID"}, 400, "requests_per_minute"),
    ("limit", {"concurrent_requests": "1"}, 400, "user_id"),
    ("limit", {"user_id": "ID", "concurrent_requests": "0"}, 400, "concurrent_requests"),
    ("limit", {"user_id": "ID", "concurrent_requests": "10001"}, 400, "concurrent_requests"),
    ("limit", {"user_id": "ID", "concurrent_requests": ["1", "2"]}, 400, "concurrent_requests"),
    ("limit", {"user_id": "ID", "requests_per_minute": "-5"}, 400, "requests_per_minute"),
    ("limit", {"user_id": "ID", "requests_per_minute": "100001"}, 400, "requests_per_minute"),
    ("limit", {"user_id": "ID", "requests_per_minute": "1e3"}, 400, "requests_per_minute"),
    ("limit", {"user_id": "ID", "requests_per_minute": "default"}, 400, "requests_per_minute"),
    ("limit", {"email": "nobody@example.com", "concurrent_requests": "1"}, 404, None),
    ("suspend", {}, 400, "user_id"),
    ("suspend", {"email": "nobody@example.com"}, 404, None),
    ("suspend", {"user_id": "ID", "email": "eve@example.com"}, 400, "email"),
    ("resume", {"user_id": ["1", "1"]}, 400, "user_id"),
    ("resume", {"user_id": "999999"}, 404, None),
]


def test_invalid_fields_are_named(script: FlaskClient, pages: Panel, user_id: int) -> None:
    for path, fields, status, param in WRONG:
        sent = {name: user_id if value == "ID" else value for name, value in fields.items()}
        answer = post(script, path, **sent)
        assert answer.status_code == status and answer.mimetype == "application/json"
        assert answer.json["error"]["param"] == param, (path, fields)
    assert pages.audited() == []


def test_setting_limits_in_the_panel(pages: Panel, user_id: int) -> None:
    page = pages.page(f"/admin/users/{user_id}")
    assert 'placeholder="60 per key, 120 per address"' in page
    asked = f"/admin/users/{user_id}/limit?requests_per_minute=600&concurrent_requests="
    words = pages.words(asked)
    assert "600, was the default (60 per key, 120 per address)" in words
    assert "ada@example.com" in words and "the default (8), unchanged" in words
    answer = pages.client.post("/admin/limit", data=pages.form(asked, "/admin/limit"))
    assert answer.status_code == 303
    assert "The limits were set." in pages.words(answer.location)
    assert 'name="requests_per_minute" type="text" value="600"' in pages.page(answer.location)
    assert pages.audited()[0][4] == {"requests_per_minute": 600, "concurrent_requests": None}


def test_a_wrong_limit_is_entered_again(pages: Panel, user_id: int) -> None:
    asked = f"/admin/users/{user_id}/limit?requests_per_minute=0&concurrent_requests=7"
    page = pages.page(asked, status=400)
    assert "This must be between 1 and 100000." in page
    assert 'value="7"' in page and "required" not in page


def test_suspending_and_resuming_in_the_panel(pages: Panel, user_id: int) -> None:
    address = f"/admin/users/{user_id}"
    assert "Resume…" not in pages.words(address)
    fields = pages.form(f"{address}/suspend", "/admin/suspend")
    words = pages.words(pages.post("/admin/suspend", fields))
    assert "The account is suspended. Its running requests end within seconds." in words
    assert "has been suspended since" in words and "Suspend…" not in words
    assert "ada@example.com suspended" in pages.words("/admin/users")
    fields = pages.form(f"{address}/resume", "/admin/resume")
    words = pages.words(pages.post("/admin/resume", fields))
    assert "The account works again." in words and "has been suspended" not in words
    # Sent twice, the form changes and records nothing.
    pages.post("/admin/resume", fields)
    assert [act[0] for act in pages.audited()] == ["account.suspend", "account.resume"]
