import socket
from email.message import EmailMessage

import pytest

from promptly.clients import smtp
from sandbox.mail import MailCatcher
from tests.support.servers import make_settings


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = "Hello"
    mail["From"] = "promptly <promptly@example.com>"
    mail["To"] = "ada@example.com"
    mail.set_content("Hello.")
    return mail


def test_a_mail_arrives(mail_catcher: MailCatcher) -> None:
    settings = make_settings(smtp_host=mail_catcher.host, smtp_port=mail_catcher.port)
    smtp.check(settings)
    smtp.send(message(), settings)
    assert mail_catcher.wait_for("ada@example.com")["Subject"] == "Hello"


@pytest.mark.parametrize("stage", ["rcpt", "data"])
@pytest.mark.parametrize(("code", "final"), [(451, False), (421, False), (550, True), (552, True)])
def test_refusals(mail_catcher: MailCatcher, stage: str, code: int, final: bool) -> None:
    settings = make_settings(smtp_host=mail_catcher.host, smtp_port=mail_catcher.port)
    mail_catcher.fail_with(code, stage=stage)
    with pytest.raises(smtp.MailNotSent) as caught:
        smtp.send(message(), settings)
    assert caught.value.final is final
    assert str(code) in caught.value.reason


def test_a_server_that_is_away_or_hangs_costs_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "STEP_TIMEOUT_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        settings = make_settings(smtp_host="127.0.0.1", smtp_port=silent.getsockname()[1])
        with pytest.raises(smtp.MailNotSent) as refused:
            smtp.send(message(), settings)
        assert not refused.value.final
        silent.listen()
        with pytest.raises(smtp.MailNotSent) as hung:
            smtp.check(settings)
        assert not hung.value.final


def test_encryption_that_is_asked_for_is_not_given_up(mail_catcher: MailCatcher) -> None:
    for how in ("starttls", "tls"):
        settings = make_settings(
            smtp_host=mail_catcher.host, smtp_port=mail_catcher.port, smtp_tls=how
        )
        with pytest.raises(smtp.MailNotSent) as caught:
            smtp.send(message(), settings)
        assert not caught.value.final
    assert mail_catcher.messages() == []
