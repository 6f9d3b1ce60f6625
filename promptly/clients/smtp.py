"""Sending one mail through the configured mail server.

Every step has its own timeout, so a server that hangs costs an attempt, not a worker.
"""

import smtplib
import ssl
from email.message import EmailMessage

from promptly.settings import Settings

STEP_TIMEOUT_SECONDS = 10
CODE_TEMPORARY = range(400, 500)


class MailNotSent(Exception):
    """The mail server did not accept the mail; `final` if a retry cannot succeed."""

    def __init__(self, reason: str, *, final: bool) -> None:
        self.reason = reason
        self.final = final
        super().__init__(reason)


def send(message: EmailMessage, settings: Settings) -> None:
    """Hand a mail to the mail server; raises MailNotSent.

    If the connection breaks when the server may have accepted the mail, it counts as not sent:
    delivery is at least once.
    """
    try:
        with _connected(settings) as server:
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused as problem:
        # Each mail has one recipient; the exception covers 451 as well as 550.
        code, answer = next(iter(problem.recipients.values()))
        raise _refused(code, answer) from problem
    except smtplib.SMTPAuthenticationError as problem:
        # A misconfiguration, not a fault of the mail: retry until the operator corrects it.
        raise MailNotSent(f"sign-in refused: {problem.smtp_code}", final=False) from problem
    except smtplib.SMTPResponseException as problem:
        raise _refused(problem.smtp_code, problem.smtp_error) from problem
    except (smtplib.SMTPException, ssl.SSLError, OSError) as problem:
        raise MailNotSent(f"{type(problem).__name__}: {problem}", final=False) from problem


def check(settings: Settings) -> None:
    """Connect, encrypt and sign in as configured, sending no mail; raises MailNotSent."""
    try:
        with _connected(settings) as server:
            server.noop()
    except (smtplib.SMTPException, ssl.SSLError, OSError) as problem:
        raise MailNotSent(f"{type(problem).__name__}: {problem}", final=False) from problem


def _connected(settings: Settings) -> smtplib.SMTP:
    host, port = settings.smtp_host, settings.smtp_port
    context = ssl.create_default_context()
    server: smtplib.SMTP
    if settings.smtp_tls == "tls":
        server = smtplib.SMTP_SSL(host, port, timeout=STEP_TIMEOUT_SECONDS, context=context)
    else:
        server = smtplib.SMTP(host, port, timeout=STEP_TIMEOUT_SECONDS)
    try:
        if settings.smtp_tls == "starttls":
            server.starttls(context=context)
        if settings.smtp_user:
            server.login(settings.smtp_user, settings.smtp_password.reveal())
    except BaseException:
        server.close()
        raise
    return server


def _refused(code: int, answer: bytes | str) -> MailNotSent:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    return MailNotSent(f"{code} {text}", final=code not in CODE_TEMPORARY)
