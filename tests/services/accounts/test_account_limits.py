"""Limits of single accounts, their suspension, and the rates that gateways read."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import IntegrityError

from promptly.errors import NotFound
from promptly.models import User
from promptly.services import account_deletion, audit
from promptly.services.accounts import account_limits, key_format, keys
from promptly.services.accounts.account_limits import AccountRate
from promptly.services.audit import Operator
from promptly.settings import current_settings
from promptly.transactions import transaction
from tests.support import factories
from tests.support.races import together
from tests.support.servers import make_settings

ADA = Operator("panel:ada", "127.0.0.1")
PEPPER = make_settings().key_pepper.reveal()


@pytest.fixture
def user_id(app: Flask) -> int:
    with app.app_context(), transaction():
        return factories.user(paid_tokens=70).id


def audited(app: Flask) -> list[tuple[str, Any, Any]]:
    with app.app_context(), transaction():
        rows = audit.entries(100).rows
        return [(row.action, row.before, row.after) for row in reversed(rows)]


def test_only_the_limits_given_change(app: Flask, user_id: int) -> None:
    with app.app_context(), transaction():
        changes: account_limits.LimitChanges = {"requests_per_minute": 600}
        first = account_limits.set_limits(user_id, changes, operator=ADA)
        assert (first.requests_per_minute, first.concurrent_requests) == (600, None)
        again = account_limits.set_limits(user_id, changes, operator=ADA)
        assert again.entry_id is None
        both = account_limits.set_limits(
            user_id, {"requests_per_minute": None, "concurrent_requests": 2}, operator=ADA
        )
        assert (both.requests_per_minute, both.concurrent_requests) == (None, 2)
    assert audited(app) == [
        ("account.limit", {"requests_per_minute": None}, {"requests_per_minute": 600}),
        (
            "account.limit",
            {"requests_per_minute": 600, "concurrent_requests": None},
            {"requests_per_minute": None, "concurrent_requests": 2},
        ),
    ]


def test_a_suspension_is_recorded_once(app: Flask, user_id: int) -> None:
    def suspend() -> Any:
        with transaction():
            return account_limits.suspend(user_id, operator=ADA).suspended_at

    first, *others = together(app, *[suspend] * 4)
    assert first is not None and others == [first] * 3
    with app.app_context():
        for _ in range(2):
            with transaction():
                assert account_limits.resume(user_id, operator=ADA).suspended_at is None
    since = f"{first:%Y-%m-%dT%H:%M:%S}Z"
    assert audited(app) == [
        ("account.suspend", {"suspended_at": None}, {"suspended_at": since}),
        ("account.resume", {"suspended_at": since}, {"suspended_at": None}),
    ]


def test_an_account_that_is_gone_or_going(app: Flask, user_id: int) -> None:
    with app.app_context(), transaction():
        account_deletion.close(user_id, current_settings())
    for unknown in (user_id, 999_999):
        with app.app_context(), pytest.raises(NotFound), transaction():
            account_limits.suspend(unknown, operator=ADA)
        with app.app_context(), pytest.raises(NotFound), transaction():
            account_limits.set_limits(unknown, {"concurrent_requests": 1}, operator=ADA)


@pytest.mark.parametrize("name", ["requests_per_minute", "concurrent_requests"])
def test_the_database_refuses_limits_of_nothing(app: Flask, user_id: int, name: str) -> None:
    with app.app_context(), pytest.raises(IntegrityError), transaction() as session:
        setattr(session.get_one(User, user_id), name, 0)


def test_rates_by_the_hashes_of_valid_keys(
    app: Flask, user_id: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    database = app.extensions["hot_path_database"]
    assert account_limits.read_rates(database) == {}
    with app.app_context(), transaction():
        account_limits.set_limits(user_id, {"requests_per_minute": 600}, operator=ADA)
        first, second = (factories.api_key(user_id, name)[1] for name in ("a", "b"))
        revoked, _ = factories.api_key(user_id, "c")
        keys.revoke(user_id, revoked.id)
        factories.api_key(factories.user().id)
    rate = AccountRate(user_id, 600)
    hashes = [key_format.digest(raw, PEPPER) for raw in (first, second)]
    assert account_limits.read_rates(database) == dict.fromkeys(hashes, rate)
    assert "too many keys" not in caplog.text
    monkeypatch.setattr(account_limits, "MOST_KEYS", 1)
    assert account_limits.read_rates(database) == {hashes[0]: rate}
    assert "too many keys" in caplog.text
