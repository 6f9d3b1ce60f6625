"""Keys across a rotation of the pepper: accepted by every process, rehashed when they are used."""

import pytest
from flask import Flask
from sqlalchemy import text

from promptly.models import ApiKey
from promptly.secret import Secret
from promptly.services.accounts import keys, peppers
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.model_gateway import hashed, new_key
from tests.support.races import together
from tests.support.servers import make_settings

OLD, NEW = make_settings().key_pepper, Secret("a new pepper, long enough " * 2)


class Rotation:
    """The applications of each step, on one database that knows the old pepper."""

    def __init__(self, app_factory: AppFactory) -> None:
        self.before = app_factory()
        self.announced = app_factory(key_pepper_previous=(NEW,))
        self.switched = app_factory(key_pepper=NEW, key_pepper_previous=(OLD,))
        self.after = app_factory(key_pepper=NEW, mailbox_pepper=OLD)
        with self.before.app_context(), transaction():
            peppers.register(peppers.SessionDatabase(), make_settings())


@pytest.fixture
def rotation(app_factory: AppFactory) -> Rotation:
    return Rotation(app_factory)


def new_account_key(app: Flask) -> str:
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=70)
        return keys.create(user.id, "default", app.extensions["settings"].key_pepper)[1]


def use(app: Flask, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return app.test_client().get("/v1/balance", headers=headers).status_code


def version(app: Flask, key: str) -> int:
    with app.app_context(), transaction() as session:
        return session.query(ApiKey).filter_by(prefix=key[:12]).one().pepper_version


def test_no_step_locks_a_key_out(rotation: Rotation) -> None:
    old = new_account_key(rotation.before)
    assert use(rotation.announced, old) == 200 and version(rotation.before, old) == 1
    # Until all processes have switched, keys are made under both peppers and used everywhere.
    new = new_account_key(rotation.switched)
    assert version(rotation.before, new) == 2
    for app in (rotation.switched, rotation.announced, rotation.switched):
        assert (use(app, old), use(app, new)) == (200, 200)
    assert (version(rotation.after, old), version(rotation.after, new)) == (2, 2)
    assert (use(rotation.after, old), use(rotation.after, new)) == (200, 200)
    assert (use(rotation.before, old), use(rotation.before, new)) == (401, 401)


def test_an_unused_key_needs_the_old_pepper(rotation: Rotation) -> None:
    key = new_account_key(rotation.before)
    assert use(rotation.after, key) == 401
    assert use(rotation.switched, key) == 200
    assert use(rotation.after, key) == 200


def test_signing_in_rehashes_too(rotation: Rotation) -> None:
    key = new_account_key(rotation.before)
    answer = rotation.switched.test_client().post("/session", data={"key": key})
    assert answer.location == "/dashboard"
    assert version(rotation.after, key) == 2


def test_a_revoked_key_stays_revoked(rotation: Rotation) -> None:
    key = new_account_key(rotation.before)
    with rotation.before.app_context(), transaction() as session:
        row = session.query(ApiKey).one()
        keys.revoke(row.user_id, row.id)
        key_id = row.id
    assert use(rotation.switched, key) == 401
    hashes = rotation.switched.extensions["gateway"].key_hashes
    hashes.renew(key_id, hashes.of(key)[0])
    assert version(rotation.after, key) == 1


def test_many_uses_at_once(rotation: Rotation) -> None:
    key = new_account_key(rotation.before)
    app = rotation.switched
    assert together(app, *[lambda: use(app, key)] * 6) == [200] * 6
    assert version(app, key) == 2


def test_a_failure_only_postpones_it(rotation: Rotation) -> None:
    key = new_account_key(rotation.before)
    with rotation.before.app_context(), transaction() as session:
        session.execute(text("UPDATE pepper_versions SET fingerprint = 'another'"))
    assert use(rotation.switched, key) == 200
    assert version(rotation.switched, key) == 1


def test_an_imported_key_gets_the_current_version(rotation: Rotation) -> None:
    key = new_key()
    with rotation.before.app_context(), transaction():
        keys.add_imported(factories.user(paid_tokens=1).id, key[:12], hashed(key))
    assert use(rotation.switched, key) == 200
    assert version(rotation.switched, key) == 2
