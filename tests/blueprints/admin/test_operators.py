"""Admin keys with names: each operator signs in and acts under their own."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from promptly.admin_keys import AdminKey
from promptly.secret import Secret
from promptly.services import audit
from promptly.transactions import transaction
from tests.blueprints.admin.conftest import ADMIN_KEY, NAVIGATION
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.servers import VARIABLES

ADA = AdminKey("ada", Secret("adas+own/key:0123456789-abcdefgh="))
BOB = AdminKey("bob", Secret("bobs+own/key:0123456789-abcdefgh="))
NEWER = Secret("a newer signing key of this installation")


def test_acts_are_recorded_under_the_keys_name(app_factory: AppFactory) -> None:
    app = app_factory(admin_key=Secret(ADMIN_KEY), admin_keys=(ADA, BOB))
    with app.app_context(), transaction():
        user_id = factories.user(paid_tokens=10).id
    for key in (ADMIN_KEY, ADA.key.reveal(), BOB.key.reveal()):
        form = {"key": key, "user_id": user_id, "delta": 1}
        assert app.test_client().post("/admin/adjust", data=form).status_code == 200
    client = app.test_client()
    assert client.get(f"/admin?key={ADA.key.reveal()}", headers=NAVIGATION).status_code == 303
    assert client.get("/admin/audit").status_code == 200
    form = {"key": BOB.key.reveal()}
    assert app.test_client().post("/admin/session", data=form).status_code == 303
    with app.app_context(), transaction():
        found = [(row.action, row.actor) for row in reversed(audit.entries().rows)]
    assert found == [
        ("balance.adjust", "api:admin"),
        ("balance.adjust", "api:ada"),
        ("balance.adjust", "api:bob"),
        ("session.open", "panel:ada"),
        ("session.open", "panel:bob"),
    ]


def test_names_suffice_without_admin_key(app_factory: AppFactory) -> None:
    client = app_factory(admin_keys=(ADA,)).test_client()
    assert client.get(f"/admin?key={ADA.key.reveal()}").status_code == 200
    for wrong in ("", "ada", BOB.key.reveal(), f"ada:{ADA.key.reveal()}"):
        assert client.get("/admin", query_string={"key": wrong}).status_code == 403


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"admin_keys": (ADA,)}, 200),
        ({"admin_key": Secret("")}, 200),
        ({"gateway_secret_key": NEWER, "gateway_secret_key_previous": None}, 200),
        ({"gateway_secret_key": NEWER}, 403),
        ({"admin_keys": (BOB,)}, 403),
        ({"admin_keys": (AdminKey("ada", NEWER), BOB)}, 403),
        ({"admin_keys": (AdminKey("eve", ADA.key), BOB)}, 403),
        ({"admin_keys": (), "admin_key": ADA.key}, 403),
    ],
)
def test_a_session_belongs_to_its_name_and_key(
    app_factory: AppFactory, changes: dict[str, Any], status: int
) -> None:
    settings = {"admin_key": Secret(ADMIN_KEY), "admin_keys": (ADA, BOB)}
    before = app_factory(**settings).test_client()
    assert before.post("/admin/session", data={"key": ADA.key.reveal()}).status_code == 303
    cookie = before.get_cookie("promptly_admin", path="/admin")
    assert cookie is not None
    if "gateway_secret_key_previous" in changes:
        previous = (Secret(VARIABLES["GATEWAY_SECRET_KEY"]),)
        changes = {**changes, "gateway_secret_key_previous": previous}
    client: FlaskClient = app_factory(**{**settings, **changes}).test_client()
    client.set_cookie("promptly_admin", cookie.value, path="/admin")
    assert client.get("/admin/users").status_code == status
