"""The documented form API, called by scripts with the admin key."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from promptly.errors import InsufficientQuota, TokensReserved
from promptly.models import AuditEntry, User
from promptly.services import audit
from promptly.services.ledger import balances, verification
from promptly.settings import Settings
from promptly.transactions import transaction
from tests.blueprints.admin.conftest import ADMIN_KEY, token_of
from tests.services.metering.meter import Meter
from tests.support import factories
from tests.support.books import BooksReader
from tests.support.races import together

FIELDS = {
    "user_id", "email", "paid_tokens", "trial_tokens", "trial_expires_at", "applied_delta",
}  # fmt: skip


@pytest.fixture
def user_id(admin_app: Flask) -> int:
    with admin_app.app_context(), transaction():
        return factories.user("ada@example.com", paid_tokens=1000).id


def post(client: FlaskClient, path: str, **fields: object) -> Any:
    return client.post(f"/admin/{path}", data={"key": ADMIN_KEY, **fields})


def acts(app: Flask, **filters: Any) -> list[AuditEntry]:
    with app.app_context(), transaction() as session:
        rows = audit.entries(100, **filters).rows
        session.expunge_all()
        return rows


def test_adjust(admin_app: Flask, script: FlaskClient, user_id: int) -> None:
    answer = post(script, "adjust", email="ada@example.com", delta="500")
    assert answer.status_code == 200 and answer.mimetype == "application/json"
    assert answer.json == {
        "user_id": user_id,
        "email": "ada@example.com",
        "paid_tokens": 1500,
        "trial_tokens": 0,
        "trial_expires_at": None,
        "applied_delta": 500,
    }
    assert answer.headers["Cache-Control"] == "no-store" and "Set-Cookie" not in answer.headers
    # A deduction stops at zero and reports the amount it took.
    answer = post(script, "adjust", user_id=user_id, delta="-9000")
    assert (answer.json["paid_tokens"], answer.json["applied_delta"]) == (0, -1500)
    assert post(script, "adjust", user_id=user_id, delta="-1").json["applied_delta"] == 0
    with admin_app.app_context(), transaction():
        assert verification.verify() == []


def test_adjust_leaves_what_is_held(admin_app: Flask, script: FlaskClient, user_id: int) -> None:
    with admin_app.app_context(), transaction():
        factories.hold(user_id, held_paid=300)
    answer = post(script, "adjust", user_id=user_id, delta="-1000")
    assert (answer.json["paid_tokens"], answer.json["applied_delta"]) == (300, -700)


def test_grant(script: FlaskClient, user_id: int) -> None:
    answer = post(script, "grant", email="ada@example.com", tokens="700", days="3")
    assert set(answer.json) == FIELDS
    assert (answer.json["trial_tokens"], answer.json["applied_delta"]) == (700, 700)
    ends = datetime.fromisoformat(answer.json["trial_expires_at"])
    assert timedelta(days=2, hours=23) < ends - datetime.now(UTC) <= timedelta(days=3)
    again = post(script, "grant", user_id=user_id, email="ada@example.com", tokens="1", days="1")
    assert again.json["trial_tokens"] == 701
    assert again.json["trial_expires_at"] == answer.json["trial_expires_at"]


def test_an_expired_trial_is_not_shown(admin_app: Flask, script: FlaskClient) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    with admin_app.app_context(), transaction():
        user_id = factories.user(trial_tokens=50, trial_expires_at=past).id
    answer = post(script, "adjust", user_id=user_id, delta="1")
    assert (answer.json["trial_tokens"], answer.json["trial_expires_at"]) == (0, None)


def test_delete(admin_app: Flask, script: FlaskClient, user_id: int) -> None:
    with admin_app.app_context(), transaction():
        raw = factories.api_key(user_id)[1]
        factories.order(user_id)
    answer = post(script, "delete", user_id=user_id)
    assert answer.status_code == 200
    assert answer.json == {
        "user_id": user_id,
        "email": "ada@example.com",
        "paid_tokens": 1000,
        "trial_tokens": 0,
        "trial_expires_at": None,
        "applied_delta": -1000,
    }
    bearer = {"Authorization": f"Bearer {raw}"}
    assert script.get("/v1/balance", headers=bearer).status_code == 401
    assert post(script, "delete", user_id=user_id).status_code == 404
    with admin_app.app_context(), transaction() as session:
        assert session.get(User, user_id) is None
        assert session.scalar(text("SELECT count(*) FROM orders WHERE user_id IS NULL")) == 1
    [entry] = acts(admin_app, action="account.delete")
    assert (entry.user_id, entry.actor, entry.address) == (user_id, "api:admin", "127.0.0.1")
    assert entry.before is not None and entry.before["paid_tokens"] == 1000
    assert "ada@" not in repr(vars(entry))


WRONG: list[tuple[str, dict[str, Any], int, str | None]] = [
    ("adjust", {"delta": "1"}, 400, "user_id"),
    ("adjust", {"user_id": "", "email": " ", "delta": "1"}, 400, "user_id"),
    ("adjust", {"email": "ada@example.com"}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": ""}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": "1.5"}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": "1e6"}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": "0x10"}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": "1_000"}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": "١٢"}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": "--1"}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": "9007199254740992"}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": "-9007199254740992"}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": "9" * 5000}, 400, "delta"),
    ("adjust", {"email": "ada@example.com", "delta": ["1", "2"]}, 400, "delta"),
    ("adjust", {"email": ["ada@example.com", "b@example.com"], "delta": "1"}, 400, "email"),
    ("adjust", {"user_id": ["1", "1"], "delta": "1"}, 400, "user_id"),
    ("adjust", {"email": "no address", "delta": "1"}, 400, "email"),
    ("adjust", {"email": "a\x00@example.com", "delta": "1"}, 400, "email"),
    ("adjust", {"email": "nobody@example.com", "delta": "1"}, 404, None),
    ("adjust", {"user_id": "999999", "delta": "1"}, 404, None),
    ("adjust", {"user_id": "9223372036854775807", "delta": "1"}, 404, None),
    ("adjust", {"user_id": "9223372036854775808", "delta": "1"}, 400, "user_id"),
    ("adjust", {"user_id": "0", "delta": "1"}, 400, "user_id"),
    ("adjust", {"user_id": "ada", "delta": "1"}, 400, "user_id"),
    ("adjust", {"user_id": "ID", "email": "eve@example.com", "delta": "1"}, 400, "email"),
    ("adjust", {"user_id": "ID", "delta": "1", "reference": "x" * 101}, 400, "reference"),
    ("adjust", {"user_id": "ID", "delta": "1", "reference": "a\nb"}, 400, "reference"),
    ("adjust", {"user_id": "ID", "delta": "1", "reference": ["a", "b"]}, 400, "reference"),
    ("grant", {"user_id": "ID", "days": "1"}, 400, "tokens"),
    ("grant", {"user_id": "ID", "tokens": "5"}, 400, "days"),
    ("grant", {"user_id": "ID", "tokens": "0", "days": "1"}, 400, "tokens"),
    ("grant", {"user_id": "ID", "tokens": "-5", "days": "1"}, 400, "tokens"),
    ("grant", {"user_id": "ID", "tokens": "5", "days": "0"}, 400, "days"),
    ("grant", {"user_id": "ID", "tokens": "5", "days": "3651"}, 400, "days"),
    ("grant", {"user_id": "ID", "tokens": "5", "days": "1.0"}, 400, "days"),
    ("grant", {"email": "nobody@example.com", "tokens": "5", "days": "1"}, 404, None),
    ("delete", {}, 400, "user_id"),
    ("delete", {"email": "nobody@example.com"}, 404, None),
    ("delete", {"user_id": "ID", "email": "eve@example.com"}, 400, "email"),
]  # fmt: skip


def test_invalid_fields_are_named(
    admin_app: Flask, script: FlaskClient, user_id: int, subtests: pytest.Subtests
) -> None:
    for path, fields, status, param in WRONG:
        with subtests.test(path=path, fields=fields):
            sent = {name: user_id if value == "ID" else value for name, value in fields.items()}
            answer = post(script, path, **sent)
            assert answer.status_code == status and answer.mimetype == "application/json"
            error = answer.json["error"]
            assert set(error) == {"message", "type", "param", "code"} and error["param"] == param
    with admin_app.app_context(), transaction():
        assert balances.read(user_id)["paid_tokens"] == 1000
    assert acts(admin_app) == []


def test_a_sum_that_no_column_can_hold(script: FlaskClient, user_id: int) -> None:
    with script.application.app_context(), transaction() as session:
        session.execute(text("UPDATE balances SET paid_tokens = 9223372036854775807"))
    answer = post(script, "adjust", user_id=user_id, delta="1")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "delta")


def test_other_content_types(script: FlaskClient, user_id: int) -> None:
    fields = {"key": ADMIN_KEY, "user_id": str(user_id), "delta": "1"}
    for options in (
        {"json": fields},
        {"data": fields, "content_type": "multipart/form-data"},
        {"data": "key=x", "content_type": "text/plain"},
    ):
        answer = script.post("/admin/adjust", **options)
        assert answer.status_code == 400 and "error" in (answer.json or {})
    too_large = {**fields, "reference": "x" * 300_000}
    assert script.post("/admin/adjust", data=too_large).status_code == 413


def test_a_key_post_ignores_the_cookie(panel: FlaskClient, user_id: int) -> None:
    # A posted key decides alone: a session does not excuse a wrong one, a right one needs no token.
    wrong = panel.post("/admin/adjust", data={"key": "x", "user_id": user_id, "delta": 1})
    assert wrong.status_code == 403 and "error" in (wrong.json or {})
    right = post(panel, "adjust", user_id=user_id, delta=1)
    assert right.status_code == 200 and right.json["applied_delta"] == 1


def test_a_session_post_needs_its_token(panel: FlaskClient, user_id: int) -> None:
    fields = {"user_id": str(user_id), "delta": "5"}
    refused = panel.post("/admin/adjust", data=fields)
    assert refused.status_code == 400 and "<h1>" in refused.text
    page = panel.get(f"/admin/users/{user_id}/adjust?delta=5").text
    answer = panel.post("/admin/adjust", data={**fields, "csrf_token": token_of(page)})
    assert answer.status_code == 303
    assert answer.location.startswith(f"/admin/users/{user_id}?act=")
    assert "5 paid tokens were added." in panel.get(answer.location).text


def test_a_reference_counts_once_for_an_account(
    admin_app: Flask, script: FlaskClient, user_id: int
) -> None:
    first = post(script, "adjust", user_id=user_id, delta="-300", reference="invoice 7")
    again = post(script, "adjust", user_id=user_id, delta="-300", reference="invoice 7")
    assert first.json == again.json
    assert (again.json["applied_delta"], again.json["paid_tokens"]) == (-300, 700)
    granted = post(script, "grant", user_id=user_id, tokens=9, days=1, reference="invoice 7")
    assert granted.json["trial_tokens"] == 9, "an adjustment and a grant are two things"
    repeated = post(script, "grant", user_id=user_id, tokens=9, days=1, reference="invoice 7")
    assert repeated.json == granted.json
    with admin_app.app_context(), transaction():
        other = factories.user().id
    answer = post(script, "adjust", user_id=other, delta="5", reference="invoice 7")
    assert answer.json["applied_delta"] == 5, "another account's is another"
    assert len(acts(admin_app)) == 3


def test_the_audit_log_of_the_form_api(admin_app: Flask, script: FlaskClient, user_id: int) -> None:
    post(script, "adjust", user_id=user_id, delta="500", reference="r1")
    post(script, "grant", user_id=user_id, tokens="7", days="1")
    granted, adjusted = acts(admin_app)
    assert (adjusted.action, adjusted.subject, adjusted.user_id) == (
        "balance.adjust",
        "r1",
        user_id,
    )
    assert (adjusted.actor, adjusted.address) == ("api:admin", "127.0.0.1")
    assert adjusted.before == {"paid_tokens": 1000, "trial_tokens": 0, "trial_expires_at": None}
    assert adjusted.after == {
        "paid_tokens": 1500, "trial_tokens": 0, "trial_expires_at": None, "applied_delta": 500,
    }  # fmt: skip
    assert granted.after is not None and granted.after["trial_tokens"] == 7
    assert ADMIN_KEY not in repr([vars(entry) for entry in (granted, adjusted)])


def test_adjustments_at_the_same_moment(admin_app: Flask, user_id: int) -> None:
    def take() -> int:
        answer = post(admin_app.test_client(), "adjust", user_id=user_id, delta="-400")
        return int(answer.json["applied_delta"])

    taken = together(admin_app, *[take] * 4)
    assert sorted(taken) == [-400, -400, -200, 0]
    entries = acts(admin_app)
    befores = sorted(entry.before["paid_tokens"] for entry in entries if entry.before)
    assert befores == [0, 200, 600, 1000], "each saw what the one before it left"
    with admin_app.app_context(), transaction():
        assert verification.verify() == []


def test_one_reference_at_the_same_moment(admin_app: Flask, user_id: int) -> None:
    def give() -> int:
        answer = post(admin_app.test_client(), "adjust", user_id=user_id, delta=5, reference="r")
        return int(answer.json["paid_tokens"])

    assert together(admin_app, *[give] * 4) == [1005] * 4
    assert len(acts(admin_app)) == 1


def test_adjusting_while_the_account_spends(admin_app: Flask) -> None:
    meter = Meter(BooksReader(*_servers_of(admin_app)))
    account = meter.books.account(paid_tokens=1000)

    def spend() -> int:
        charged = 0
        for _ in range(8):
            with suppress(InsufficientQuota, TokensReserved):
                hold = meter.place(account, 60)
                charge = meter.settle(account, hold.request_id, 40, 10)
                charged += charge.charged_tokens if charge else 0
        return charged

    def take() -> int:
        client = admin_app.test_client()
        takes = [post(client, "adjust", user_id=account.user_id, delta="-150") for _ in range(3)]
        return sum(answer.json["applied_delta"] for answer in takes)

    charged, taken, more = together(admin_app, spend, take, spend)
    assert charged + more > 0 > taken
    assert meter.books.balance(account)["paid_tokens"] == 1000 + taken - charged - more >= 0
    assert meter.differences() == []
    meter.books.close()


def _servers_of(app: Flask) -> tuple[str, str]:
    settings: Settings = app.extensions["settings"]
    return settings.database_url, settings.redis_url
