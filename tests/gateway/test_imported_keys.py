"""The first use of keys that were imported with bcrypt's hash."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from promptly.errors import ServiceUnavailable
from promptly.extensions import db
from promptly.gateway import imported_keys
from promptly.gateway.imported_keys import MOST_WAITING, WRONG_TRIES, ImportedKeys
from promptly.gateway.limits import LimitExceeded
from promptly.models import ApiKey
from promptly.services import account_deletion
from promptly.services.accounts import key_format, keys, peppers
from promptly.services.accounts.authentication import Caller, authenticate
from promptly.settings import current_settings
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.books import wait_for
from tests.support.model_gateway import hashed, new_key
from tests.support.races import together
from tests.support.servers import make_settings

PEPPER = make_settings().key_pepper.reveal()


def imported(app: Flask, key: str | None = None, prefix: str | None = None) -> tuple[str, Caller]:
    """Create an account with an imported key; return the key and its owner."""
    key = key or new_key()
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=70)
        row = keys.add_imported(user.id, prefix or key[:12], hashed(key))
        return key, Caller(row.id, user.id, 70, pays=True)


def use(app: Flask, key: str, address: str = "192.0.2.1") -> Caller | None:
    """Present a key as a request does that did not find its keyed hash."""
    checks: ImportedKeys = app.extensions["gateway"].imported_keys
    return checks.authenticate(key, address)


def wrong(key: str) -> str:
    """Return another key with the same prefix."""
    return key[:12] + new_key()[12:]


def stored(app: Flask, caller: Caller) -> tuple[int, bytes]:
    with app.app_context(), transaction() as session:
        row = session.get_one(ApiKey, caller.key_id)
        return row.pepper_version, row.key_hash


def test_the_first_use_rehashes(app: Flask) -> None:
    key, owner = imported(app)
    digest = key_format.digest(key, PEPPER)
    assert authenticate(app.extensions["hot_path_database"], digest) is None
    assert stored(app, owner)[0] == key_format.IMPORTED_VERSION
    assert use(app, key) == owner
    assert stored(app, owner) == (peppers.FIRST_VERSION, digest)
    assert authenticate(app.extensions["hot_path_database"], digest) == owner
    with app.app_context():
        found = keys.find(key, make_settings().key_pepper)
        assert found is not None and found.id == owner.key_id


def test_accounts_may_share_a_prefix(app: Flask) -> None:
    first, owner = imported(app)
    second, other = imported(app, key=wrong(first))
    assert use(app, second) == other
    assert use(app, first) == owner


def test_a_key_that_is_used_by_many_at_once(app: Flask) -> None:
    key, owner = imported(app)
    assert together(app, *[lambda: use(app, key)] * 8) == [owner] * 8


@pytest.mark.parametrize("redis", ["here", "away"])
def test_wrong_keys_are_limited(app_factory: AppFactory, redis: str) -> None:
    app = app_factory(**({} if redis == "here" else {"redis_url": "redis://127.0.0.1:1/0"}))
    key, owner = imported(app)
    other, other_owner = imported(app)
    for _ in range(WRONG_TRIES):
        assert use(app, wrong(key)) is None
    with pytest.raises(LimitExceeded) as refusal:
        use(app, key)
    assert 0 < int(refusal.value.headers()["retry-after"]) <= 60
    # The prefix is limited from everywhere, the address for every prefix.
    with pytest.raises(LimitExceeded):
        use(app, key, "192.0.2.2")
    with pytest.raises(LimitExceeded):
        use(app, other)
    assert use(app, other, "192.0.2.2") == other_owner
    assert stored(app, owner)[0] == key_format.IMPORTED_VERSION


@pytest.mark.parametrize("redis", ["here", "away"])
def test_right_keys_are_not_limited(app_factory: AppFactory, redis: str) -> None:
    app = app_factory(**({} if redis == "here" else {"redis_url": "redis://127.0.0.1:1/0"}))
    for _ in range(WRONG_TRIES + 2):
        key, owner = imported(app)
        assert use(app, key) == owner


def test_unknown_prefixes_are_not_checked(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    imported(app)
    monkeypatch.setattr("bcrypt.checkpw", None)
    assert [use(app, new_key()) for _ in range(WRONG_TRIES + 2)] == [None] * (WRONG_TRIES + 2)


@pytest.mark.parametrize(
    "end",
    [
        lambda owner: keys.revoke(owner.user_id, owner.key_id),
        lambda owner: keys.revoke_all(owner.user_id),
        lambda owner: account_deletion.close(owner.user_id, current_settings()),
        lambda owner: account_deletion.remove(owner.user_id),
    ],
    ids=["revoked", "all revoked", "closed", "removed"],
)
def test_revoked_keys_are_refused(app: Flask, end: Callable[[Caller], object]) -> None:
    key, owner = imported(app)
    with app.app_context(), transaction():
        end(owner)
    assert use(app, key) is None


def test_a_busy_process_refuses_for_a_while(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imported_keys, "WAIT_SECONDS", 0.01)
    key, owner = imported(app)
    checks: ImportedKeys = app.extensions["gateway"].imported_keys
    with checks._turn, pytest.raises(ServiceUnavailable) as refusal:
        use(app, key)
    assert refusal.value.headers() == {"retry-after": "5"}
    for _ in range(imported_keys.MOST_WAITING):
        assert checks._places.acquire(blocking=False)
    with pytest.raises(ServiceUnavailable):
        use(app, key)
    checks._places.release()
    assert use(app, key) == owner


def test_a_sign_in_that_waits_for_its_turn_holds_no_connection(app: Flask) -> None:
    key, _ = imported(app)
    checks = app.extensions["gateway"].imported_keys
    with app.app_context():
        pool: Any = db.engines[None].pool
    with ThreadPoolExecutor(1) as threads:
        with checks._taking_turns():
            answer = threads.submit(app.test_client().post, "/session", data={"key": key})
            wait_for(lambda: checks._places._value == MOST_WAITING - 2, "the second check")
            assert pool.checkedout() == 0
        assert answer.result().status_code == 303
