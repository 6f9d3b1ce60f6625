"""The list of accounts, an account's page, and its actions."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.models import AccountActivity
from promptly.services import audit
from promptly.services.accounts import keys
from promptly.services.ledger import balances
from promptly.transactions import transaction
from tests.blueprints.admin.conftest import ADMIN_KEY, token_of
from tests.support import factories

VECTORS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "{{ 7 * 7 }}",
    "\u202egnp.exe",
)


@pytest.fixture
def user_id(admin_app: Flask) -> int:
    with admin_app.app_context(), transaction():
        user = factories.user("ada@example.com", paid_tokens=5_000_000, trial_tokens=100_000)
        factories.usage_event(
            user.id,
            prompt_tokens=1200,
            cached_prompt_tokens=1111,
            completion_tokens=34,
            charged_paid=1234,
        )
        factories.hold(user.id, held_paid=4096)
        factories.api_key(user.id, "laptop")
        factories.order(user.id, tokens=25_000_000)
        return user.id


def walk(client: FlaskClient, path: str, rel: str = "next") -> Iterator[list[str]]:
    """Yield the email addresses of each page, following its links."""
    while True:
        page = client.get(path).text
        yield re.findall(r'class="address"[^>]*>([^<]+)<', page)
        link = re.search(rf'href="([^"]+)" rel="{rel}"', page)
        if link is None:
            return
        path = link[1].replace("&amp;", "&")


def test_the_list(panel: FlaskClient, user_id: int) -> None:
    page = panel.get("/admin/users").text
    for word in ("ada@example.com", "5,094,670", "100,000", f"/admin/users/{user_id}"):
        assert word in page, word
    assert panel.get("/admin/users?q=ADA%40").text.count(">ada@example.com<") == 1
    assert "No email address contains" in panel.get("/admin/users?q=nobody").text
    # LIKE's special characters match literally.
    for part in ("%", "_", "!", "\\", "%25", "a_a"):
        assert "address contains" in panel.get("/admin/users", query_string={"q": part}).text
    for odd in ("\x00", "\x00ada", "é", "𝒶", "a" * 3000):
        assert panel.get("/admin/users", query_string={"q": odd}).status_code == 200


def test_an_empty_service(panel: FlaskClient) -> None:
    assert "No accounts yet" in panel.get("/admin/users").text


@pytest.mark.parametrize("sort", ["joined", "email", "balance", "usage"])
def test_pages_hold_every_account_once_with_equal_values(
    admin_app: Flask, panel: FlaskClient, sort: str
) -> None:
    with admin_app.app_context(), transaction() as session:
        for number in range(125):
            # Many equal sort values: only the ids order them.
            user = factories.user(f"u{number % 7}-{number}@example.com", paid_tokens=number % 3)
            if number % 2:
                session.add(AccountActivity(user_id=user.id, tokens=number % 4, requests=1))
        session.execute(text("UPDATE users SET created_at = '2026-01-01 12:00:00.123456+00'"))
    for direction in ("asc", "desc"):
        pages = list(walk(panel, f"/admin/users?sort={sort}&dir={direction}"))
        assert [len(page) for page in pages] == [50, 50, 25]
        forwards = [address for page in pages for address in page]
        assert len(set(forwards)) == 125
        with admin_app.app_context(), transaction() as session:
            assert forwards == sorted_by_database(session, sort, direction)
    # Backwards: from the second page to the first.
    first = panel.get(f"/admin/users?sort={sort}").text
    link = re.search(r'href="([^"]+)" rel="next"', first)
    assert link is not None
    there, back = list(walk(panel, link[1].replace("&amp;", "&"), rel="prev"))
    assert (there, back) == tuple(list(walk(panel, f"/admin/users?sort={sort}"))[1::-1])
    assert sum(map(len, walk(panel, f"/admin/users?sort={sort}&q=u3-"))) == 18


def sorted_by_database(session: Session, sort: str, direction: str) -> list[str]:
    value = {
        "joined": "u.created_at",
        "email": "u.email",
        "balance": "b.paid_tokens",
        "usage": "coalesce(a.tokens, 0)",
    }[sort]
    rows = session.execute(
        text(
            f"SELECT u.email FROM users u JOIN balances b ON b.user_id = u.id"
            f" LEFT JOIN account_activity a ON a.user_id = u.id"
            f" ORDER BY {value} {direction}, u.id {direction}"
        )
    )
    return [row[0] for row in rows]


def test_odd_urls_show_the_first_page(panel: FlaskClient, user_id: int) -> None:
    for sort in ("joined", "email", "balance", "usage", "x"):
        for place in (
            "",
            "~",
            "x~1",
            "1~x",
            "~1",
            "9" * 30 + "~1",
            "\x00~1",
            "1e9~5",
            "²~²",
            "1~-1",
        ):
            for name in ("after", "before"):
                answer = panel.get("/admin/users", query_string={"sort": sort, name: place})
                assert answer.status_code == 200, (sort, place)
    for path in ("/admin/audit", f"/admin/users/{user_id}/ledger"):
        for number in ("0", "-1", "x", "9" * 25, "²", "9223372036854775808"):
            for name in ("before", "after", "user_id", "act"):
                assert panel.get(path, query_string={name: number}).status_code == 200
    for number in ("0", "99999999", "9223372036854775807", "9223372036854775808", "x"):
        assert panel.get(f"/admin/users/{number}").status_code == 404


def test_the_page_of_an_account(panel: FlaskClient, user_id: int) -> None:
    page = panel.get(f"/admin/users/{user_id}").text
    for word in ("ada@example.com", "5,094,670", "4,998,766", "4,096", "1,200", "1,234", "laptop",
                 "full access", "waiting for payment", "test-model",
                 "No operator actions"):  # fmt: skip
        assert word in page, word
    forms = re.findall(r"<form.*?</form>", page, re.DOTALL)
    assert len([form for form in forms if f'name="user_id" value="{user_id}"' in form]) == 5


def test_data_from_others_is_shown_as_text(admin_app: Flask, panel: FlaskClient) -> None:
    with admin_app.app_context(), transaction() as session:
        for number, vector in enumerate(VECTORS):
            user = factories.user(f"x{number}@example.com", paid_tokens=10)
            # No form accepts such an address, but a restored database may hold anything.
            session.execute(
                text("UPDATE users SET email = :email WHERE id = :id"),
                {"email": f"{vector}@example.com", "id": user.id},
            )
            factories.api_key(user.id, vector)
            factories.usage_event(user.id, model=vector)
            audit.record("balance.adjust", actor=vector, user_id=user.id, subject=vector,
                         before={vector: vector}, after={"state": vector})  # fmt: skip
    paths = ["/admin/users", "/admin/audit", *(f"/admin/users/{n}" for n in range(1, 6)),
             *(f"/admin/users/{n}/delete" for n in range(1, 6)),
             *(f"/admin/users/{n}/reissue" for n in range(1, 6)),
             "/admin/users?q=" + VECTORS[0], "/admin/users/1/adjust?delta=" + VECTORS[1],
             "/admin/audit?action=" + VECTORS[0], "/admin?next=" + VECTORS[1]]  # fmt: skip
    for path in paths:
        page = panel.get(path).text
        assert (
            "<script>alert" not in page and "<img src=x" not in page and "-alert(1)-'" not in page
        )
        assert " 49" not in page


def test_adjusting_asks_first(admin_app: Flask, panel: FlaskClient, user_id: int) -> None:
    page = panel.get(f"/admin/users/{user_id}/adjust?user_id={user_id}&delta=-9000000").text
    for word in (
        "ada@example.com",
        "9,000,000",
        "4,998,766",
        "the balance stops at zero",
    ):
        assert word in page, word
    wrong = panel.get(f"/admin/users/{user_id}/adjust?delta=1.5")
    assert wrong.status_code == 400 and "must be a whole number" in wrong.text
    assert 'value="1.5"' in wrong.text and 'action="/admin/adjust"' not in wrong.text
    with admin_app.app_context(), transaction():
        assert balances.read(user_id)["paid_tokens"] == 4_998_766, "asking changes nothing"


def submit(client: FlaskClient, page: str, *, times: int = 1) -> str:
    """Submit the form of a confirmation page; return the page that follows."""
    form = next(
        form for form in re.findall(r"<form.*?</form>", page, re.DOTALL) if "user_id" in form
    )
    action = re.search(r'action="([^"]+)"', form)
    assert action is not None
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    for _ in range(times):
        answer = client.post(action[1], data=fields)
    assert answer.status_code == 303, answer.text
    followed = client.get(answer.location)
    assert followed.status_code == 200
    return followed.text


def test_a_form_that_is_sent_twice_acts_once(
    admin_app: Flask, panel: FlaskClient, user_id: int
) -> None:
    page = panel.get(f"/admin/users/{user_id}/adjust?delta=250").text
    after = submit(panel, page, times=2)
    assert "250 paid tokens were added." in after
    with admin_app.app_context(), transaction():
        assert balances.read(user_id)["paid_tokens"] == 4_999_016
        [entry] = audit.entries(action="balance.adjust").rows
        assert (entry.actor, entry.address) == ("panel:admin", "127.0.0.1")
    assert "balance: adjust" in after, "the account's page shows what was done to it"


def test_granting(panel: FlaskClient, user_id: int) -> None:
    page = panel.get(f"/admin/users/{user_id}/grant?tokens=5000&days=30").text
    ends = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    assert "105,000" in page and ends in page
    assert "5,000 trial tokens were granted." in submit(panel, page)
    for query, word in (("tokens=0&days=1", "tokens"), ("tokens=1&days=x", "days")):
        wrong = panel.get(f"/admin/users/{user_id}/grant?{query}")
        assert wrong.status_code == 400 and f'id="{word}-error"' in wrong.text


def test_deleting(admin_app: Flask, panel: FlaskClient) -> None:
    with admin_app.app_context(), transaction():
        user_id = factories.user("eve@example.com", paid_tokens=77).id
    page = panel.get(f"/admin/users/{user_id}/delete").text
    assert "Delete eve@example.com" in page and "77" in page
    after = submit(panel, page)
    assert f"Account {user_id} was deleted." in after and "eve@" not in after
    assert panel.get(f"/admin/users/{user_id}").status_code == 404
    log = panel.get(f"/admin/audit?user_id={user_id}").text
    assert "account: delete" in log and "eve@" not in log


def test_revoking_a_key(admin_app: Flask, panel: FlaskClient, user_id: int) -> None:
    with admin_app.app_context(), transaction():
        [key] = keys.list_active(user_id)
        key_id, prefix = key.id, key.prefix
        other = factories.user().id
    path = f"/admin/users/{user_id}/keys/{key_id}/revoke"
    page = panel.get(path).text
    assert "laptop" in page and prefix in page
    assert panel.get(f"/admin/users/{other}/keys/{key_id}/revoke").status_code == 404
    assert "The key was revoked." in submit(panel, page)
    assert panel.get(path).status_code == 404
    with admin_app.app_context(), transaction():
        assert keys.list_active(user_id) == []
        [entry] = audit.entries(action="key.revoke").rows
        assert (entry.user_id, entry.subject) == (user_id, str(key_id))


def test_making_a_batch_key(admin_app: Flask, panel: FlaskClient, user_id: int) -> None:
    with admin_app.app_context(), transaction():
        [key] = keys.list_active(user_id)
        key_id = key.id
    path = f"/admin/users/{user_id}/keys/{key_id}/batch"
    page = panel.get(path).text
    assert "Make this a batch key?" in page and "laptop" in page
    assert "The key was changed" in submit(panel, page)
    assert "Make normal…" in panel.get(f"/admin/users/{user_id}").text
    page = panel.get(path).text
    assert "Make this key normal?" in page
    submit(panel, page)
    assert panel.get(f"/admin/users/{user_id + 999}/keys/{key_id}/batch").status_code == 404
    with admin_app.app_context(), transaction():
        assert [key.batch for key in keys.list_active(user_id)] == [False]
        rows = audit.entries(action="key.batch").rows
        assert [(row.subject, row.before, row.after) for row in rows] == [
            (str(key_id), {"batch": True}, {"batch": False}),
            (str(key_id), {"batch": False}, {"batch": True}),
        ]


def test_a_new_key_by_mail(admin_app: Flask, panel: FlaskClient, user_id: int) -> None:
    page = panel.get(f"/admin/users/{user_id}/reissue").text
    assert "ada@example.com" in page
    assert "new one is on its way by email" in submit(panel, page)
    with admin_app.app_context(), transaction() as session:
        assert keys.list_active(user_id) == []
        found = session.execute(text("SELECT kind, recipient, state FROM outbox")).all()
    assert [tuple(row) for row in found] == [("new_key", "ada@example.com", "pending")]


def test_every_form_that_acts_has_its_token_and_account(panel: FlaskClient, user_id: int) -> None:
    with panel.application.app_context(), transaction():
        [key] = keys.list_active(user_id)
        key_id = key.id
    base = f"/admin/users/{user_id}"
    for path in (f"{base}/adjust?delta=1", f"{base}/grant?tokens=1&days=1", f"{base}/delete",
                 f"{base}/reissue", f"{base}/keys/{key_id}/revoke",
                 f"{base}/keys/{key_id}/batch"):  # fmt: skip
        page = panel.get(path).text
        [form] = [it for it in re.findall(r"<form.*?</form>", page, re.DOTALL) if "csrf" in it
                  and "session/end" not in it]  # fmt: skip
        assert f'name="user_id" value="{user_id}"' in form and token_of(form)
        assert panel.post(re.findall(r'action="([^"]+)"', form)[0]).status_code == 400


def test_the_ledger_page(admin_app: Flask, panel: FlaskClient, user_id: int) -> None:
    with admin_app.app_context(), transaction() as session:
        session.execute(
            text("INSERT INTO ledger_entries (user_id, kind, paid_delta, actor)"
                 " SELECT :id, 'adjustment', n, 'test' FROM generate_series(1, 60) n"),
            {"id": user_id},
        )  # fmt: skip
    assert "All entries" in panel.get(f"/admin/users/{user_id}").text
    page = panel.get(f"/admin/users/{user_id}/ledger").text
    assert "+60" in page and "+11" in page and 'rel="next"' in page
    older = re.findall(r'href="([^"]+)" rel="next"', page)[0]
    assert "+10<" in panel.get(older).text and 'rel="prev"' in panel.get(older).text


def test_the_first_page_has_the_newest_accounts(script: FlaskClient, user_id: int) -> None:
    page = script.get(f"/admin?key={ADMIN_KEY}").text
    assert "ada@example.com" in page and "5,094,670" in page
    assert f'name="user_id" value="{user_id}"' in page and 'action="/admin/users"' in page
