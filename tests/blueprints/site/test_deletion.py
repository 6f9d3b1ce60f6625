"""Deletion of an account by its owner: requested, confirmed by mail, carried out."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from sqlalchemy import text

from promptly.extensions import db
from promptly.models import OutboxMail, User
from promptly.services import account_deletion
from promptly.services.accounts import accounts
from promptly.services.mail import messages, outbox
from promptly.settings import current_settings
from promptly.tasks import mail
from promptly.transactions import transaction
from sandbox.mail import MailCatcher
from tests.blueprints.site.conftest import Visitor, sign_up
from tests.support.books import wait_for
from tests.support.races import run

LINK = re.compile(r"https?://[^/\s]+(/dashboard/delete/confirm\?token=[^\s]+)")


def ask(visitor: Visitor) -> None:
    answer = visitor.post("/dashboard/delete", page="/dashboard/delete")
    assert answer.status_code == 200 and visitor.email in answer.text


def newest_link(app: Flask) -> str:
    """Return the path of the link in the newest mail."""
    with app.app_context():
        row = db.session.query(OutboxMail).order_by(OutboxMail.id.desc()).first()
        assert row is not None and row.kind == "confirm_deletion"
        link = messages.signed_link(row, app.extensions["settings"])
    return "/dashboard" + link.split("/dashboard")[1]


def press(app: Flask, link: str, visitor: Visitor | None = None) -> tuple[int, str]:
    client = visitor.client if visitor else app.test_client()
    path, token = link.split("?token=")
    answer = client.post(path, data={"token": token})
    return answer.status_code, answer.text


def count(app: Flask) -> int:
    with app.app_context():
        return db.session.query(User).count()


def test_the_whole_way(mail_app: Flask, mail_catcher: MailCatcher) -> None:
    visitor = sign_up(mail_app, "ada@example.com", paid_tokens=1234)
    page = visitor.get("/dashboard/delete").text
    assert "ada@example.com" in page and "1,234" in page and "What is kept" in page
    ask(visitor)
    assert visitor.get("/dashboard").status_code == 200, "nothing has changed yet"
    run(mail_app, mail.sweep)
    part = mail_catcher.wait_for("ada@example.com").get_body(("plain",))
    assert part is not None
    found = LINK.search(part.get_content())
    assert found is not None
    asked = visitor.get(found.group(1))
    assert asked.status_code == 200 and "ada@example.com" in asked.text
    assert asked.headers["Cache-Control"] in {"no-store", "private, no-cache"}
    assert count(mail_app) == 1, "a mail scanner follows links"
    status, said = press(mail_app, found.group(1), visitor)
    assert status == 200 and "Your account has been deleted" in said
    assert count(mail_app) == 0
    assert visitor.get("/dashboard").status_code == 303
    with mail_app.app_context():
        assert db.session.scalar(text("SELECT count(*) FROM outbox")) == 0
    assert press(mail_app, found.group(1))[0] == 400
    assert visitor.client.get(found.group(1)).status_code == 400


def test_the_link_works_without_a_session_and_once(app: Flask, visitor: Visitor) -> None:
    ask(visitor)
    link = newest_link(app)
    assert press(app, link)[0] == 200
    assert count(app) == 0
    assert visitor.get("/dashboard").status_code == 303


def test_another_accounts_session_stays(app: Flask, visitor: Visitor, other: Visitor) -> None:
    ask(visitor)
    assert press(app, newest_link(app), other)[0] == 200
    assert other.get("/dashboard").status_code == 200
    assert count(app) == 1


def test_a_second_request_spends_the_first_link(app: Flask, visitor: Visitor) -> None:
    ask(visitor)
    first = newest_link(app)
    ask(visitor)
    assert visitor.get(first).status_code == 400
    status, said = press(app, first)
    assert status == 400 and "newer email" in said
    assert count(app) == 1
    assert press(app, newest_link(app))[0] == 200


def test_a_link_that_is_spent_as_it_is_followed_signs_nobody_out(
    app: Flask, visitor: Visitor
) -> None:
    ask(visitor)
    link = newest_link(app)

    def is_waiting() -> bool:
        waiting = "datname = current_database() AND wait_event_type = 'Lock'"
        with app.app_context(), db.engine.connect() as connection:
            query = text(f"SELECT count(*) FROM pg_stat_activity WHERE {waiting}")
            return bool(connection.scalar(query))

    with ThreadPoolExecutor(1) as pool:
        with app.app_context(), transaction():
            # Locks the account, so that the link is found spent only behind the first look at it.
            accounts.ask_to_delete(visitor.user_id)
            pressed = pool.submit(press, app, link, visitor)
            wait_for(is_waiting, "the press of the button to wait for the account")
        assert pressed.result(20)[0] == 400
    assert visitor.get("/dashboard").status_code == 200
    assert count(app) == 1


def test_a_reissue_spends_it(app: Flask, visitor: Visitor) -> None:
    ask(visitor)
    link = newest_link(app)
    assert visitor.client.post("/register", data={"email": visitor.email}).status_code == 200
    assert press(app, link)[0] == 400
    assert count(app) == 1


def test_links_are_not_exchanged(app: Flask, visitor: Visitor) -> None:
    settings = app.extensions["settings"]
    with app.app_context(), transaction():
        row = outbox.add("confirm_reissue", visitor.email, user_id=visitor.user_id)
        token = messages.signed_link(row, settings).split("token=")[1]
    assert press(app, f"/dashboard/delete/confirm?token={token}")[0] == 400
    for forged in ("", "x", token[:-2] + "xx"):
        assert press(app, f"/dashboard/delete/confirm?token={forged}")[0] == 400
    assert count(app) == 1


def test_a_link_grows_old(app: Flask, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(visitor)
    link = newest_link(app)
    monkeypatch.setattr(messages, "LINK_HOURS", -1)
    assert press(app, link)[0] == 400
    assert count(app) == 1


def test_mails_are_few(app: Flask, visitor: Visitor, other: Visitor) -> None:
    for _ in range(3):
        ask(visitor)
    answer = visitor.post("/dashboard/delete", page="/dashboard/delete")
    assert answer.status_code == 429
    ask(other)
    with app.app_context():
        rows = db.session.query(OutboxMail).order_by(OutboxMail.id)
        assert [row.state for row in rows] == ["cancelled", "cancelled", "pending", "pending"]


def test_the_form_needs_its_token(app: Flask, visitor: Visitor) -> None:
    assert visitor.client.post("/dashboard/delete").status_code == 400
    with app.app_context():
        assert db.session.query(OutboxMail).count() == 0


def test_a_closed_account_is_not_asked_again(app: Flask, visitor: Visitor) -> None:
    ask(visitor)
    link = newest_link(app)
    with app.app_context(), transaction():
        account_deletion.close(visitor.user_id, current_settings())
    assert press(app, link)[0] == 400
    with app.app_context(), pytest.raises(Exception, match="no such account"):
        accounts.ask_to_delete(visitor.user_id + 1)
