"""Sending one mail to the configured mail server.

Every step has its own time limit, so a server that hangs costs an attempt and not a worker.
"""

import smtplib
import ssl
from email.message import EmailMessage

from promptly.settings import Settings

STEP_TIMEOUT_SECONDS = 10
CODE_TEMPORARY = range(400, 500)


class MailNotSent(Exception):
    """The mail server did not take the mail; `final` says that it never will."""

    def __init__(self, reason: str, *, final: bool) -> None:
        self.reason = reason
        self.final = final
        super().__init__(reason)


def send(message: EmailMessage, settings: Settings) -> None:
    """Hand a mail to the mail server; raises MailNotSent.

    A connection that breaks while the server may have taken the mail counts as not sent, so a
    mail may arrive twice and never not at all.
    """
    try:
        with _connected(settings) as server:
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused as problem:
        # One recipient a mail; the class covers 451 as well as 550.
        code, answer = next(iter(problem.recipients.values()))
        raise _refused(code, answer) from problem
    except smtplib.SMTPAuthenticationError as problem:
        # The operator's mistake, not the mail's: it goes out once that is put right.
        raise MailNotSent(f"sign-in refused: {problem.smtp_code}", final=False) from problem
    except smtplib.SMTPResponseException as problem:
        raise _refused(problem.smtp_code, problem.smtp_error) from problem
    except (smtplib.SMTPException, ssl.SSLError, OSError) as problem:
        raise MailNotSent(f"{type(problem).__name__}: {problem}", final=False) from problem


def check(settings: Settings) -> None:
    """Connect, greet, encrypt and sign in, and send nothing; raises MailNotSent."""
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
