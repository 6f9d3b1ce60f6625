from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from promptly.models import Balance, User
from promptly.models.states import KeyScope
from promptly.runtime.database import HotPathDatabase
from promptly.services.accounts import key_format, keys
from promptly.services.accounts.authentication import Caller, authenticate
from promptly.transactions import transaction
from tests.support import factories
from tests.support.servers import make_settings

PEPPER = make_settings().key_pepper.reveal()


def ask(app: Flask, raw: str) -> Caller | None:
    database: HotPathDatabase = app.extensions["hot_path_database"]
    return authenticate(database, key_format.digest(raw, PEPPER))


def test_a_key_leads_to_its_account(app: Flask) -> None:
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=70, trial_tokens=30)
        factories.hold(user.id, held_paid=20, held_trial=5)
        row, raw = factories.api_key(user.id)
        _, second = factories.api_key(user.id, "second")
        expected = Caller(row.id, user.id, 75, pays=True)
    assert ask(app, raw) == expected
    again = ask(app, second)
    assert again is not None
    assert (again.user_id, again.key_id != expected.key_id) == (expected.user_id, True)


def test_the_scope_does_not_matter_to_the_api(app: Flask) -> None:
    with app.app_context(), transaction():
        row, raw = factories.api_key(factories.user(paid_tokens=7).id)
        row.scope = KeyScope.INFERENCE
        expected = Caller(row.id, row.user_id, 7, pays=True)
    assert ask(app, raw) == expected


def test_a_batch_key_is_known_as_one(app: Flask) -> None:
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=7)
        row, raw = factories.api_key(user.id)
        assert keys.set_batch(user.id, row.id, True) is False
        assert keys.set_batch(user.id + 1, row.id, False) is None
        expected = Caller(row.id, user.id, 7, pays=True, batch=True)
    assert ask(app, raw) == expected


@pytest.mark.parametrize(("paid", "held", "pays"), [(0, 0, False), (70, 0, True), (70, 70, True)])
def test_an_account_pays_as_long_as_it_owns_paid_tokens(
    app: Flask, paid: int, held: int, pays: bool
) -> None:
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=paid, trial_tokens=30)
        factories.hold(user.id, held_paid=held)
        _, raw = factories.api_key(user.id)
    caller = ask(app, raw)
    assert caller is not None
    assert caller.pays is pays


def test_limits_and_suspension_come_with_the_key(app: Flask) -> None:
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=7)
        user.concurrent_requests = 2
        user.suspended_at = datetime.now(UTC)
        row, raw = factories.api_key(user.id)
        user_id, expected = user.id, Caller(row.id, user.id, 7, pays=True, concurrent_requests=2)
    suspended = ask(app, raw)
    assert suspended is not None and suspended.suspended
    with app.app_context(), transaction() as session:
        session.get_one(User, user_id).suspended_at = None
    assert ask(app, raw) == expected


def test_an_expired_trial_does_not_count(app: Flask) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=70, trial_tokens=30, trial_expires_at=past)
        _, raw = factories.api_key(user.id)
    caller = ask(app, raw)
    assert caller is not None
    assert caller.available_tokens == 70


def test_an_account_without_balance_has_nothing(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        user: User = factories.user()
        _, raw = factories.api_key(user.id)
        session.delete(session.get_one(Balance, user.id))
    caller = ask(app, raw)
    assert caller is not None
    assert (caller.available_tokens, caller.pays) == (0, False)


def test_malformed_keys(app: Flask) -> None:
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=70)
        row, raw = factories.api_key(user.id)
        user_id, key_id = user.id, row.id
    assert ask(app, key_format.generate()) is None
    assert (
        authenticate(app.extensions["hot_path_database"], key_format.digest(raw, "x" * 32)) is None
    )
    assert ask(app, raw) is not None
    with app.app_context(), transaction():
        keys.revoke(user_id, key_id)
    assert ask(app, raw) is None
