import re
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from promptly.clients import smtp
from promptly.extensions import db
from promptly.models import ApiKey, OutboxMail
from promptly.services import account_deletion
from promptly.services.accounts import accounts, keys
from promptly.services.mail import messages, outbox
from promptly.settings import current_settings
from promptly.tasks import mail
from promptly.transactions import transaction
from sandbox.mail import MailCatcher
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.races import run, together

ADDRESS = "ada@example.com"
KEY = re.compile(r"sk-[0-9A-Za-z]{46}")


def register(app: Flask, address: str = ADDRESS) -> int:
    with app.app_context(), transaction():
        accounts.register(address, app.extensions["settings"])
        return accounts.find(email=address).id


def good_keys(app: Flask, user_id: int) -> list[ApiKey]:
    with app.app_context():
        return keys.list_active(user_id)


def mailed_key(catcher: MailCatcher) -> str:
    part = catcher.messages(ADDRESS)[-1].get_body(("plain",))
    assert part is not None
    found = KEY.search(part.get_content())
    assert found is not None
    return found.group()


def is_good(app: Flask, raw: str) -> bool:
    with app.app_context():
        return keys.find(raw, app.extensions["settings"].key_pepper) is not None


def states(app: Flask) -> list[str]:
    with app.app_context():
        return [row.state for row in db.session.query(OutboxMail).order_by(OutboxMail.id)]


def make_due(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        session.execute(text("UPDATE outbox SET next_at = now(), leased_until = NULL"))


def test_a_registration_mails_a_key_that_works(mail_app: Flask, mail_catcher: MailCatcher) -> None:
    user_id = register(mail_app)
    run(mail_app, mail.sweep)
    (message,) = mail_catcher.messages(ADDRESS)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Subject"] == "Your promptly API key"
    assert message["To"] == ADDRESS
    assert message.get_body(("html",)) is not None
    raw = mailed_key(mail_catcher)
    assert is_good(mail_app, raw)
    assert [key.prefix for key in good_keys(mail_app, user_id)] == [raw[:12]]
    assert states(mail_app) == ["sent"]
    with mail_app.app_context():
        assert accounts.find(user_id=user_id).key_prefix == raw[:12]


def test_both_parts_carry_the_whole_key(mail_app: Flask, mail_catcher: MailCatcher) -> None:
    register(mail_app)
    run(mail_app, mail.sweep)
    raw = mailed_key(mail_catcher)
    (path,) = mail_catcher.directory.glob("*.eml")
    assert path.read_text().count(raw) >= 2  # not wrapped over two lines


def test_deliver_twice_and_in_parallel_sends_once(
    mail_app: Flask, mail_catcher: MailCatcher
) -> None:
    user_id = register(mail_app)
    with mail_app.app_context():
        (mail_id,) = db.session.scalars(text("SELECT id FROM outbox"))
    together(mail_app, *[lambda: mail.deliver.run(mail_id)] * 3, *[mail.sweep.run] * 2)
    run(mail_app, mail.deliver, mail_id)
    assert len(mail_catcher.messages(ADDRESS)) == 1
    assert len(good_keys(mail_app, user_id)) == 1


def test_a_temporary_refusal_is_tried_again_with_another_key(
    mail_app: Flask, mail_catcher: MailCatcher
) -> None:
    user_id = register(mail_app)
    mail_catcher.fail_with(451, times=1)
    run(mail_app, mail.sweep)
    assert states(mail_app) == ["pending"]
    assert good_keys(mail_app, user_id) == []
    run(mail_app, mail.sweep)  # not due yet
    assert mail_catcher.messages() == []
    make_due(mail_app)
    run(mail_app, mail.sweep)
    assert states(mail_app) == ["sent"]
    assert is_good(mail_app, mailed_key(mail_catcher))
    assert len(good_keys(mail_app, user_id)) == 1


def test_a_final_refusal_ends_it(mail_app: Flask, mail_catcher: MailCatcher) -> None:
    user_id = register(mail_app)
    mail_catcher.fail_with(550, times=1)
    run(mail_app, mail.sweep)
    make_due(mail_app)
    run(mail_app, mail.sweep)
    assert states(mail_app) == ["failed"]
    assert mail_catcher.messages() == [] and good_keys(mail_app, user_id) == []
    with mail_app.app_context(), transaction():
        assert "550" in (outbox.page().rows[0].last_error or "")


def test_a_worker_that_died_after_sending_is_made_good(
    mail_app: Flask, mail_catcher: MailCatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = register(mail_app)

    def die(_lease: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "record_sent", die)
        with pytest.raises(KeyboardInterrupt):
            run(mail_app, mail.sweep)
    first = mailed_key(mail_catcher)
    make_due(mail_app)
    run(mail_app, mail.sweep)
    second = mailed_key(mail_catcher)
    assert first != second
    assert not is_good(mail_app, first) and is_good(mail_app, second)
    ids = [message["Message-ID"] for message in mail_catcher.messages(ADDRESS)]
    assert len(ids) == 2 and len(set(ids)) == 1
    assert len(good_keys(mail_app, user_id)) == 1


def test_a_reissue_while_a_mail_is_being_sent_leaves_only_the_new_key(
    mail_app: Flask, mail_catcher: MailCatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = register(mail_app)
    real_send = smtp.send

    def send_and_reissue(*arguments: Any) -> None:
        real_send(*arguments)
        monkeypatch.setattr(smtp, "send", real_send)
        register(mail_app)

    monkeypatch.setattr(smtp, "send", send_and_reissue)
    run(mail_app, mail.sweep)
    first, second = mail_catcher.messages(ADDRESS)
    assert states(mail_app) == ["cancelled", "sent"]
    (key,) = good_keys(mail_app, user_id)
    assert key.prefix in second.as_string() and key.prefix not in first.as_string()


def test_mail_to_a_deleted_account_is_not_sent(mail_app: Flask, mail_catcher: MailCatcher) -> None:
    user_id = register(mail_app)
    with mail_app.app_context(), transaction():
        account_deletion.remove(user_id)
    run(mail_app, mail.sweep)
    assert mail_catcher.messages() == []


def test_mail_to_an_account_that_is_being_deleted_is_not_sent(
    mail_app: Flask, mail_catcher: MailCatcher
) -> None:
    user_id = register(mail_app)
    with mail_app.app_context(), transaction():
        account_deletion.close(user_id, current_settings())
        outbox.add("receipt", ADDRESS, user_id=user_id)
    run(mail_app, mail.sweep)
    assert mail_catcher.messages() == []
    assert states(mail_app) == ["cancelled", "cancelled"]


def test_without_a_mail_server_rows_wait(app: Flask) -> None:
    register(app)
    run(app, mail.sweep)
    assert states(app) == ["pending"]


def test_one_sweep_sends_all_that_waits(mail_app: Flask, mail_catcher: MailCatcher) -> None:
    for number in range(5):
        register(mail_app, f"user{number}@example.com")
    run(mail_app, mail.sweep)
    assert states(mail_app) == ["sent"] * 5


def test_a_reissue_link_works_within_its_time(
    app_factory: AppFactory, mail_catcher: MailCatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_factory(
        smtp_host=mail_catcher.host, smtp_port=mail_catcher.port, key_reissue_confirm=True
    )
    settings = app.extensions["settings"]
    with app.app_context(), transaction():
        user_id = factories.user(ADDRESS).id
    register(app)
    run(app, mail.sweep)
    (message,) = mail_catcher.messages(ADDRESS)
    part = message.get_body(("plain",))
    assert part is not None and not KEY.search(part.get_content())
    found = re.search(r"confirm\?token=(\S+)", part.get_content())
    assert found is not None
    link = messages.read_token("confirm_reissue", found.group(1), settings)
    assert link is not None and link[0] == user_id
    assert messages.read_token("confirm_reissue", found.group(1)[:-2] + "xx", settings) is None
    assert messages.read_token("confirm_reissue", "", settings) is None
    monkeypatch.setattr(messages, "LINK_HOURS", -1)
    assert messages.read_token("confirm_reissue", found.group(1), settings) is None


def test_a_mail_of_the_next_release_waits_for_its_worker(
    mail_app: Flask, mail_catcher: MailCatcher
) -> None:
    with mail_app.app_context(), transaction():
        unknown = factories.mail("kind_of_the_next_release").id
    register(mail_app)
    run(mail_app, mail.deliver, unknown)
    run(mail_app, mail.sweep)
    with mail_app.app_context():
        assert db.session.get_one(OutboxMail, unknown).attempts == 0
    assert states(mail_app) == ["pending", "sent"]
