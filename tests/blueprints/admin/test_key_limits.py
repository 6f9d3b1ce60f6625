"""Limits of a key: by scripts with the key, and in the panel."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from promptly.services.accounts import key_limits, keys
from promptly.transactions import transaction
from tests.blueprints.admin.conftest import ADMIN_KEY
from tests.blueprints.admin.panel import Panel
from tests.support import factories


@pytest.fixture
def owned(admin_app: Flask) -> tuple[int, int]:
    """The ids of an account and of its key."""
    with admin_app.app_context(), transaction():
        user = factories.user("ada@example.com", paid_tokens=1000)
        return user.id, factories.api_key(user.id, "laptop")[0].id


def post(client: FlaskClient, **fields: object) -> Any:
    return client.post("/admin/limit-key", data={"key": ADMIN_KEY, **fields})


def test_a_script_limits_a_key(script: FlaskClient, pages: Panel, owned: tuple[int, int]) -> None:
    user_id, key_id = owned
    answer = post(script, email="ada@example.com", key_id=key_id, cap="500", per="day")
    assert answer.status_code == 200
    assert (answer.json["user_id"], answer.json["key_id"]) == owned
    assert answer.json["cap"]["tokens"] == answer.json["cap"]["left_tokens"] == 500
    # A field that is left out stays, an empty one takes the limit away.
    answer = post(script, user_id=user_id, key_id=key_id, concurrency="2")
    assert (answer.json["cap"]["tokens"], answer.json["concurrent_requests"]) == (500, 2)
    answer = post(script, user_id=user_id, key_id=key_id, cap="")
    assert (answer.json["cap"], answer.json["concurrent_requests"]) == (None, 2)
    assert pages.audited() == [
        (
            "key.limit",
            user_id,
            str(key_id),
            {"cap_tokens": None, "cap_period": None},
            {"cap_tokens": 500, "cap_period": "day"},
        ),
        (
            "key.limit",
            user_id,
            str(key_id),
            {"concurrent_requests": None},
            {"concurrent_requests": 2},
        ),
        (
            "key.limit",
            user_id,
            str(key_id),
            {"cap_tokens": 500, "cap_period": "day"},
            {"cap_tokens": None, "cap_period": None},
        ),
    ]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({}, 400, "cap"),
        ({"cap": "0", "per": "day"}, 400, "cap"),
        ({"cap": ["1", "2"]}, 400, "cap"),
        ({"addresses": "10.0.0.1/8"}, 400, "addresses"),
        ({"scope": "all"}, 400, "scope"),
        ({"key_id": "", "cap": "5"}, 400, "key_id"),
        ({"key_id": "999999", "cap": "5", "per": "day"}, 404, None),
    ],
)
def test_what_a_script_is_told(
    script: FlaskClient, owned: tuple[int, int], fields: dict[str, Any], status: int, param: str
) -> None:
    user_id, key_id = owned
    answer = post(script, **{"user_id": user_id, "key_id": key_id, **fields})
    assert (answer.status_code, answer.json["error"]["param"]) == (status, param)


def test_the_panel_limits_a_key(pages: Panel, admin_app: Flask, owned: tuple[int, int]) -> None:
    user_id, key_id = owned
    path = f"/admin/users/{user_id}/keys/{key_id}"
    assert f'href="{path}"' in pages.page(f"/admin/users/{user_id}")
    assert "laptop" in pages.words(path)
    query = "name=desk&scope=full&cap=5,000&per=month&expires=&models=&addresses=&concurrency="
    asked = pages.words(f"{path}/limits?{query}")
    assert "Cap in tokens 5,000, was none" in asked and "Name desk, was laptop" in asked
    fields = pages.form(f"{path}/limits?{query}", "/admin/limit-key")
    location = pages.post("/admin/limit-key", fields)
    assert "The key was changed." in pages.words(location)
    with admin_app.app_context():
        key = keys.find_active(key_id)
        assert key is not None
        limits = key_limits.of(key)
    assert (key.name, limits.cap_tokens, limits.cap_period) == ("desk", 5000, "month")
    assert "5,000 tokens a month" in pages.words(f"/admin/users/{user_id}")
    wrong = pages.words(f"{path}/limits?name=desk&cap=many&per=day", 400)
    assert "This must be a whole number" in wrong
