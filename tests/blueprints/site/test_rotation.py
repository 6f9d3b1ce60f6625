"""Pages across a change of GATEWAY_SECRET_KEY: sessions, open forms and links in emails."""

import pytest
from flask import Flask

from promptly.secret import Secret
from promptly.services.accounts import accounts
from promptly.services.mail import messages
from promptly.transactions import transaction
from tests.blueprints.site.conftest import Visitor, sign_up
from tests.blueprints.site.test_deletion import newest_link
from tests.conftest import AppFactory
from tests.support.servers import VARIABLES

OLD = Secret(VARIABLES["GATEWAY_SECRET_KEY"])
NEW = Secret("a new signing key, long enough")


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return sign_up(app, "ada@example.com", paid_tokens=10)


def carry(visitor: Visitor, app: Flask) -> Visitor:
    """Return the visitor with the same cookie at another process."""
    cookie = visitor.client.get_cookie("promptly_session")
    assert cookie is not None
    client = app.test_client()
    client.set_cookie("promptly_session", cookie.value)
    return Visitor(client, visitor.user_id, visitor.key_id, visitor.key, visitor.email)


def test_both_keys_are_accepted_while_processes_change(
    app_factory: AppFactory, visitor: Visitor
) -> None:
    announced = app_factory(gateway_secret_key_previous=(NEW,))
    switched = app_factory(gateway_secret_key=NEW, gateway_secret_key_previous=(OLD,))
    after = app_factory(gateway_secret_key=NEW)
    moved = visitor
    for number, app in enumerate((announced, switched, announced, switched)):
        # The form was opened before the visitor came to this process.
        page = moved.get("/dashboard").text
        token = page.split('name="csrf_token" value="')[1].split('"')[0]
        moved = carry(moved, app)
        form = {"csrf_token": token, "name": f"key {number}"}
        assert moved.client.post("/dashboard/keys", data=form).status_code == 200
    assert carry(moved, after).get("/dashboard").status_code == 200
    assert carry(visitor, after).get("/dashboard").status_code != 200


def test_a_link_in_an_email_stays_valid(
    app: Flask, app_factory: AppFactory, visitor: Visitor
) -> None:
    with app.app_context(), transaction():
        accounts.ask_to_delete(visitor.user_id)
    token = newest_link(app).partition("?token=")[2]
    for values, is_valid in (
        ({"gateway_secret_key": NEW, "gateway_secret_key_previous": (OLD,)}, True),
        ({"gateway_secret_key": NEW}, False),
    ):
        settings = app_factory(**values).extensions["settings"]
        link = messages.read_token("confirm_deletion", token, settings)
        assert (link is not None) is is_valid
