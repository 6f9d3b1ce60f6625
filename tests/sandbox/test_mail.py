"""The mail catcher stores mail, and refuses it when scripted to."""

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from sandbox.mail import MailCatcher
from sandbox.process import SandboxError


@pytest.fixture
def catcher(tmp_path: Path) -> Iterator[MailCatcher]:
    catcher = MailCatcher(tmp_path / "mail").start()
    yield catcher
    catcher.stop()


def send(catcher: MailCatcher, *recipients: str, text: str = "Grüße 日本") -> None:
    mail = EmailMessage()
    mail["From"] = "promptly@localhost"
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = "Your key"
    mail.set_content(text)
    with smtplib.SMTP(catcher.host, catcher.port, timeout=10) as client:
        client.send_message(mail)


def test_a_mail_is_a_file_per_recipient(catcher: MailCatcher) -> None:
    send(catcher, "ada@example.com", "bob+tag@example.com")
    mail = catcher.wait_for("bob+tag@example.com")
    assert mail["Subject"] == "Your key"
    assert mail.get_content().strip() == "Grüße 日本"
    assert len(catcher.messages()) == 2
    assert len(catcher.messages("ada@example.com")) == 1
    assert not list(catcher.directory.glob("*.part"))


def test_scripted_answers_are_used_up(catcher: MailCatcher) -> None:
    catcher.fail_with(451, times=2)
    for _ in range(2):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            send(catcher, "ada@example.com")
        assert caught.value.recipients["ada@example.com"][0] == 451
    send(catcher, "ada@example.com")
    catcher.fail_with(552, stage="data")
    with pytest.raises(smtplib.SMTPDataError):
        send(catcher, "ada@example.com")
    assert len(catcher.messages("ada@example.com")) == 1


def test_clear_and_restart_keep_the_port(catcher: MailCatcher) -> None:
    send(catcher, "ada@example.com")
    port = catcher.port
    catcher.restart()
    assert catcher.port == port
    assert catcher.messages()
    catcher.clear()
    assert catcher.messages() == []
    with pytest.raises(SandboxError, match="mail to ada"):
        catcher.wait_for("ada@example.com", 0.05)
