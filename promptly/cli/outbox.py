"""flask outbox: pending, sent, failed and cancelled emails."""

import click
from flask.cli import AppGroup

from promptly.cli.operators import operator
from promptly.cli.output import (
    before_option,
    json_option,
    limit_option,
    reports_errors,
    show_object,
    show_rows,
)
from promptly.models import OutboxMail
from promptly.models.states import MailState
from promptly.services.accounts import mail_actions
from promptly.services.mail import outbox
from promptly.services.paging import Cursor
from promptly.transactions import transaction

group = AppGroup("outbox", help="Emails: list, resend, cancel.")


@group.command("list")
@click.option(
    "--state",
    type=click.Choice([state.value for state in MailState]),
    help="Only emails in this state.",
)
@limit_option
@before_option
@json_option
def list_mails(state: str | None, limit: int, before: int | None, as_json: bool) -> None:
    """List emails, newest first."""
    columns = (
        "id",
        "created_at",
        "recipient",
        "kind",
        "state",
        "attempts",
        "next_at",
        "last_error",
    )
    with transaction():
        rows = [
            tuple(getattr(mail, column) for column in columns)
            for mail in outbox.page(limit, Cursor(before), state=state).rows
        ]
    show_rows(columns, rows, as_json)


@group.command("resend")
@click.argument("mail_id", type=int)
@json_option
@reports_errors
def resend(mail_id: int, as_json: bool) -> None:
    """Send an email again; one with a key gets a new key and the earlier one is revoked."""
    with transaction():
        before = _standing(outbox.find(mail_id))
        mail = mail_actions.resend(mail_id)
        _record("mail.resend", mail, before)
        values = _described(mail)
    show_object(values, as_json)


@group.command("cancel")
@click.argument("mail_id", type=int)
@json_option
@reports_errors
def cancel(mail_id: int, as_json: bool) -> None:
    """Cancel a pending email."""
    with transaction():
        before = _standing(outbox.find(mail_id))
        mail = mail_actions.cancel(mail_id)
        _record("mail.cancel", mail, before)
        values = _described(mail)
    show_object(values, as_json)


def _standing(mail: OutboxMail) -> dict[str, object]:
    return {"state": mail.state, "kind": mail.kind, "attempts": mail.attempts}


def _record(action: str, mail: OutboxMail, before: dict[str, object]) -> None:
    after = {"state": mail.state}
    operator().record(
        action, user_id=mail.user_id, subject=str(mail.id), before=before, after=after
    )


def _described(mail: OutboxMail) -> dict[str, object]:
    return {"id": mail.id, "recipient": mail.recipient, "kind": mail.kind, "state": mail.state}
