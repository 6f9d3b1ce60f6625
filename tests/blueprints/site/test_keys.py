"""Keys on the dashboard: created with a scope, shown once, revoked."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from promptly.clock import utcnow
from promptly.extensions import db
from promptly.models import OutboxMail
from promptly.models.states import KeyScope
from promptly.services.accounts import key_limits, keys
from promptly.transactions import transaction
from tests.blueprints.site.conftest import Visitor
from tests.support import factories

KEY = re.compile(r"sk-[0-9A-Za-z]{46}")


def names(app: Flask, visitor: Visitor) -> list[str]:
    with app.app_context():
        return [key.name for key in keys.list_active(visitor.user_id)]


def add(app: Flask, visitor: Visitor, name: str = "spare") -> int:
    with app.app_context(), transaction():
        return factories.api_key(visitor.user_id, name)[0].id


def test_a_key_is_shown_once_and_works(app: Flask, visitor: Visitor) -> None:
    answer = visitor.post("/dashboard/keys", name="  build server ")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    [raw] = KEY.findall(answer.text)
    assert "<bdi>build server</bdi>" in answer.text
    assert 'data-copy="#new-key"' in answer.text and "/copy.js" in answer.text
    assert names(app, visitor) == ["default", "build server"]
    with app.app_context():
        assert keys.find(raw, app.extensions["settings"].key_pepper) is not None
    page = visitor.get("/dashboard").text
    assert raw not in page and raw[:12] in page and "build server" in page
    cookie = visitor.client.get_cookie("promptly_session")
    assert cookie is not None and raw not in cookie.value


@pytest.fixture
def restricted(app: Flask, visitor: Visitor) -> str:
    """A key of the visitor's account with the scope that new keys have."""
    found = KEY.search(visitor.post("/dashboard/keys", name="build server").text)
    assert found is not None
    return found.group()


def test_a_new_key_is_for_the_api_only_unless_chosen_otherwise(
    app: Flask, visitor: Visitor
) -> None:
    page = visitor.get("/dashboard").text
    assert '<option value="inference" selected>' in page
    first = visitor.post("/dashboard/keys", name="first")
    assert "cannot open the dashboard" in first.text
    second = visitor.post("/dashboard/keys", name="second", scope="full")
    assert "It also opens the dashboard" in second.text
    with app.app_context():
        found = {key.name: key.scope for key in keys.list_active(visitor.user_id)}
    assert found == {
        "default": KeyScope.FULL, "first": KeyScope.INFERENCE, "second": KeyScope.FULL,
    }  # fmt: skip
    [raw] = KEY.findall(second.text)
    assert app.test_client().post("/session", data={"key": raw}).status_code == 303
    listed = visitor.get("/dashboard").text
    assert listed.count('data-label="Scope">API only') == 1
    assert listed.count('data-label="Scope">full access') == 2


def test_a_batch_key(app: Flask, visitor: Visitor) -> None:
    assert 'name="batch">' in visitor.get("/dashboard").text
    created = visitor.post("/dashboard/keys", name="night", batch="on")
    assert "Its requests yield to all others." in created.text
    with app.app_context():
        found = {key.name: (key.id, key.batch) for key in keys.list_active(visitor.user_id)}
    night, _ = found["night"]
    assert [batch for _, batch in found.values()] == [False, True]
    page = visitor.get("/dashboard").text
    assert page.count("Make normal") == page.count("Make batch") == 1
    changed = visitor.post(f"/dashboard/keys/{night}/batch")
    assert (changed.status_code, changed.location) == (303, "/dashboard?saved=batch#keys")
    assert "has been changed" in visitor.get("/dashboard?saved=batch").text
    visitor.post(f"/dashboard/keys/{visitor.key_id}/batch", batch="on")
    with app.app_context():
        assert [key.batch for key in keys.list_active(visitor.user_id)] == [True, False]


def test_a_form_that_failed_keeps_its_choice(visitor: Visitor) -> None:
    answer = visitor.post("/dashboard/keys", name="", batch="on")
    assert answer.status_code == 400 and 'name="batch" checked>' in answer.text


def test_another_accounts_key_stays_as_it_is(app: Flask, visitor: Visitor, other: Visitor) -> None:
    answer = visitor.post(f"/dashboard/keys/{other.key_id}/batch", batch="on")
    assert answer.status_code == 404
    with app.app_context():
        assert [key.batch for key in keys.list_active(other.user_id)] == [False]


@pytest.mark.parametrize("scope", ["", "FULL", "admin"])
def test_an_unknown_scope(app: Flask, visitor: Visitor, scope: str) -> None:
    answer = visitor.post("/dashboard/keys", name="first", scope=scope)
    assert answer.status_code == 400 and "scope is" in answer.text
    assert 'value="first"' in answer.text
    assert names(app, visitor) == ["default"]


def test_a_key_for_the_api_only_opens_nothing(
    app: Flask, visitor: Visitor, restricted: str
) -> None:
    client = app.test_client()
    answer = client.post("/session", data={"key": restricted})
    assert answer.status_code == 403 and "for the API only" in answer.text
    for path in (
        "/dashboard", "/dashboard/requests", "/dashboard/usage.csv", "/dashboard/delete",
        "/session/switch",
    ):  # fmt: skip
        for headers in ({}, {"Sec-Fetch-Mode": "navigate"}):
            answer = client.get(f"{path}?key={restricted}", headers=headers)
            assert answer.status_code == 403, path
            assert visitor.email not in answer.text and "Set-Cookie" not in answer.headers
    for path in (
        "/dashboard/keys", f"/dashboard/keys/{visitor.key_id}/revoke", "/dashboard/mails",
        "/dashboard/delete", "/dashboard/sessions/end",
    ):  # fmt: skip
        answer = client.post(f"{path}?key={restricted}", data={"name": "more"})
        assert answer.status_code == 403, path
    assert names(app, visitor) == ["default", "build server"]
    for _ in range(25):
        assert client.post("/session", data={"key": restricted}).status_code == 403
    assert client.post("/session", data={"key": visitor.key}).status_code == 303, "not throttled"


def test_a_new_key_is_reported(app: Flask, visitor: Visitor, restricted: str) -> None:
    with app.app_context():
        [mail] = db.session.query(OutboxMail).all()
        assert (mail.kind, mail.recipient) == ("key_created", visitor.email)
        assert mail.payload["name"] == "build server" and restricted not in str(mail.payload)


def test_revoking_the_last_full_key_says_so(app: Flask, visitor: Visitor, restricted: str) -> None:
    page = visitor.get(f"/dashboard/keys/{visitor.key_id}/revoke").text
    assert restricted not in page
    assert "last key of your account that opens the dashboard" in page
    add(app, visitor)
    page = visitor.get(f"/dashboard/keys/{visitor.key_id}/revoke").text
    assert "last key of your account" not in page


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "Give the key a name"),
        ("  \t ", "Give the key a name"),
        ("x" * 61, "60 characters"),
        ("a\x00b", "cannot be shown"),
        ("two\nlines", "cannot be shown"),
        ("right \u202e to left", "cannot be shown"),
        ("zero\u200bwidth", "cannot be shown"),
    ],
)
def test_a_name_that_will_not_do(app: Flask, visitor: Visitor, name: str, said: str) -> None:
    answer = visitor.post("/dashboard/keys", name=name)
    assert answer.status_code == 400
    assert said in answer.text
    assert 'aria-describedby="name-error"' in answer.text and 'id="name-error"' in answer.text
    assert names(app, visitor) == ["default"]


def test_names_in_any_script(app: Flask, visitor: Visitor) -> None:
    for name in ("Büro 2", "מחשב נייד", "日本語", "🔑"):
        assert visitor.post("/dashboard/keys", name=name).status_code == 200
    assert len(names(app, visitor)) == 5


def test_there_is_a_bound(app: Flask, visitor: Visitor) -> None:
    for _ in range(keys.MOST_KEYS - 1):
        add(app, visitor)
    # The form is gone, but a page left open still has it.
    assert 'action="/dashboard/keys"' not in visitor.get("/dashboard").text
    assert visitor.post("/dashboard/keys", name="more").status_code == 400
    assert len(names(app, visitor)) == keys.MOST_KEYS


def test_revoking_asks_first(app: Flask, visitor: Visitor) -> None:
    spare = add(app, visitor, "old laptop")
    path = f"/dashboard/keys/{spare}/revoke"
    page = visitor.get(path)
    assert page.status_code == 200 and "old laptop" in page.text
    assert "signs you out" not in page.text and "last key" not in page.text
    assert names(app, visitor) == ["default", "old laptop"]
    answer = visitor.post(path, page=path)
    assert (answer.status_code, answer.location) == (303, "/dashboard?saved=key#keys")
    assert names(app, visitor) == ["default"]
    assert "has been revoked" in visitor.get("/dashboard?saved=key").text
    assert visitor.get(path).status_code == 404


def test_the_key_of_this_session(app: Flask, visitor: Visitor) -> None:
    path = f"/dashboard/keys/{visitor.key_id}/revoke"
    page = visitor.get(path).text
    assert "signs you out" in page and "last key" in page
    answer = visitor.post(path, page=path)
    assert (answer.status_code, answer.location) == (303, "/")
    assert names(app, visitor) == []
    assert visitor.get("/dashboard").status_code == 303


def test_another_accounts_key(app: Flask, visitor: Visitor, other: Visitor) -> None:
    path = f"/dashboard/keys/{other.key_id}/revoke"
    assert visitor.get(path).status_code == 404
    assert visitor.post(path).status_code == 404
    assert names(app, other) == ["default"]


def test_forms_need_their_token(app: Flask, visitor: Visitor) -> None:
    key = f"/dashboard/keys/{visitor.key_id}"
    for path in ("/dashboard/keys", f"{key}/revoke", f"{key}/batch"):
        assert visitor.client.post(path, data={"name": "x"}).status_code == 400
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert visitor.client.post(path, headers=foreign).status_code == 403
    assert names(app, visitor) == ["default"]


def test_the_list_says_when_each_was_used(app: Flask, visitor: Visitor) -> None:
    add(app, visitor)
    assert visitor.get("/dashboard").text.count(">never<") == 2
    with app.app_context(), transaction():
        event = factories.usage_event(visitor.user_id)
        event.key_id = visitor.key_id
        event.created_at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    page = visitor.get("/dashboard").text
    assert page.count(">never<") == 1 and page.count("2026-01-02 03:04") >= 1


LIMITS = {
    "cap": "1,000,000",
    "per": "week",
    "expires": "2999-12-31",
    "models": "sim-model",
    "addresses": "127.0.0.0/8",
    "concurrency": "3",
}


def test_a_new_key_with_limits(app: Flask, visitor: Visitor) -> None:
    assert visitor.post("/dashboard/keys", name="agent", **LIMITS).status_code == 200
    with app.app_context():
        key = keys.named(visitor.user_id, "agent")
        limits = key_limits.of(key)
    assert (limits.cap_tokens, limits.cap_period) == (1_000_000, "week")
    assert (limits.allowed_models, limits.concurrent_requests) == (["sim-model"], 3)
    page = visitor.get("/dashboard").text
    assert "1,000,000 tokens a week; until <time" in page and "; only sim-model; only from" in page
    shown = visitor.get(f"/dashboard/keys/{key.id}").text
    assert (
        "tokens a week used" in shown and "0</span> of" in shown and 'value="2999-12-31"' in shown
    )
    refused = visitor.post("/dashboard/keys", name="other", cap="many", per="day")
    assert refused.status_code == 400 and "This must be a whole number" in refused.text
    assert '<details class="limits" open>' in refused.text and 'value="many"' in refused.text
    assert names(app, visitor) == ["default", "agent"]


def test_a_key_is_changed(app: Flask, visitor: Visitor) -> None:
    key_id = add(app, visitor, "agent")
    path = f"/dashboard/keys/{key_id}"
    saved = visitor.post(path, name="robot", scope="inference", **LIMITS)
    assert (saved.status_code, saved.location) == (303, f"{path}?saved=limits")
    page = visitor.get(saved.location).text
    assert "Saved." in page and '<option value="inference" selected>' in page
    # The form as it is shown changes nothing; an emptied field takes a limit away.
    assert visitor.post(path, name="robot", scope="inference", **LIMITS).status_code == 303
    assert visitor.post(path, **{**LIMITS, "cap": "", "expires": ""}).status_code == 303
    with app.app_context():
        limits = key_limits.of(keys.named(visitor.user_id, "robot"))
    assert (limits.cap_tokens, limits.expires_at) == (None, None)
    assert limits.allowed_addresses == ["127.0.0.0/8"]
    wrong = visitor.post(path, name="default", addresses="10.0.0.1/8")
    assert wrong.status_code == 400
    assert "Do you mean 10.0.0.0/8?" in wrong.text and 'value="10.0.0.1/8"' in wrong.text
    taken = visitor.post(path, name="default")
    assert taken.status_code == 400 and "has this name" in taken.text
    assert visitor.get("/dashboard/keys/999999").status_code == 404


def test_a_limited_key_cannot_lift_its_limits(app: Flask, visitor: Visitor) -> None:
    other = add(app, visitor, "other")
    with app.app_context(), transaction():
        own = keys.named(visitor.user_id, "default").id
        key_limits.set_limits(visitor.user_id, own, {"concurrent_requests": 5})
    for path in (f"/dashboard/keys/{own}", f"/dashboard/keys/{other}", "/dashboard/keys"):
        refused = visitor.post(path, name="new")
        assert refused.status_code == 403 and "limits of its own" in refused.text
    assert "limits of its own" in visitor.get(f"/dashboard/keys/{other}").text
    assert names(app, visitor) == ["default", "other"]
    assert visitor.post(f"/dashboard/keys/{other}/revoke").status_code == 303


def test_an_expired_key_ends_its_sessions_and_opens_none(app: Flask, visitor: Visitor) -> None:
    with app.app_context(), transaction():
        key = keys.named(visitor.user_id, "default")
        key.expires_at = utcnow() - timedelta(seconds=1)
    assert visitor.get("/dashboard").status_code == 303
    assert visitor.client.post("/session", data={"key": visitor.key}).status_code == 401


def test_a_key_for_other_addresses_opens_no_session(app: Flask, visitor: Visitor) -> None:
    with app.app_context(), transaction():
        keys.named(visitor.user_id, "default").allowed_addresses = ["192.0.2.0/24"]
    refused = visitor.client.post("/session", data={"key": visitor.key})
    assert refused.status_code == 403 and "may not be used from 127.0.0.1" in refused.text
