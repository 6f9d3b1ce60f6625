"""Outgoing email: the list, one email, resend and cancel. Contents are never shown."""

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import labels
from promptly.blueprints.admin import actor, confirmation, flash_messages, pages
from promptly.blueprints.admin.confirmation import Confirmation
from promptly.models import OutboxMail
from promptly.services import paging
from promptly.services.accounts import mail_actions
from promptly.services.mail import messages, outbox
from promptly.transactions import transaction


def index() -> str:
    """List emails, newest first."""
    state, kind = request.args.get("state"), request.args.get("kind")
    chosen = {
        "state": state if state in labels.MAILS else None,
        "kind": kind if kind in labels.MAIL_KINDS else None,
    }
    user_id = pages.number("user_id")
    page = outbox.page(
        paging.PAGE_SIZE,
        pages.cursor(),
        state=chosen["state"],
        kind=chosen["kind"],
        user_id=user_id,
    )
    newer, older = pages.links(page)
    return render_template(
        "admin/outbox.html",
        mails=page.rows,
        newer=newer,
        older=older,
        chosen=chosen | {"user_id": user_id},
        words=labels,
    )


def one(mail_id: int) -> str:
    """Show one email: recipient, kind and delivery state."""
    mail = outbox.find(mail_id)
    return render_template(
        "admin/mail.html",
        mail=mail,
        number=mail.payload.get("number"),
        words=labels,
        notice=flash_messages.notice(subject=str(mail_id)),
    )


def resend_question(mail_id: int) -> str:
    """Confirm sending an email again."""
    mail = outbox.find(mail_id)
    effects = ["It is sent as if for the first time, and may arrive twice."]
    if mail.kind in messages.WITH_KEY:
        effects.append("It carries a new key; any key it carried before stops working.")
    return _question(mail, "Send again", "resend", effects, danger=False)


def cancel_question(mail_id: int) -> str:
    """Confirm cancelling an email."""
    mail = outbox.find(mail_id)
    effects = ["It is not sent."]
    if mail.kind in messages.WITH_KEY:
        effects.append("The account does not get the key that this email was to deliver.")
    return _question(mail, "Cancel this email", "cancel", effects, danger=True)


def resend(mail_id: int) -> AnyResponse:
    """Send an email again, whatever its state."""
    with transaction():
        mail = outbox.find(mail_id)
        before = _before(mail)
        mail = mail_actions.resend(mail_id)
        return _done("mail.resend", mail, before)


def cancel(mail_id: int) -> AnyResponse:
    """Cancel a pending email."""
    with transaction():
        mail = outbox.find(mail_id)
        before = _before(mail)
        mail = mail_actions.cancel(mail_id)
        return _done("mail.cancel", mail, before)


def _question(mail: OutboxMail, button: str, act: str, effects: list[str], *, danger: bool) -> str:
    return confirmation.ask(
        Confirmation(
            title=f"{button}?",
            facts=[
                ("Email", f"{mail.id}: {labels.plain(labels.MAIL_KINDS, mail.kind)}"),
                ("To", mail.recipient),
                ("State", labels.plain(labels.MAILS, mail.state)),
            ],
            effects=effects,
            action=url_for(f"admin.{act}_mail", mail_id=mail.id),
            button=button,
            back=url_for("admin.mail", mail_id=mail.id),
            user_id=mail.user_id,
            danger=danger,
        )
    )


def _before(mail: OutboxMail) -> dict[str, object]:
    confirmation.require_account(mail.user_id)
    return {"state": mail.state, "kind": mail.kind, "attempts": mail.attempts}


def _done(action: str, mail: OutboxMail, before: dict[str, object]) -> AnyResponse:
    act = actor.record(
        action,
        user_id=mail.user_id,
        subject=str(mail.id),
        before=before,
        after={"state": mail.state},
    )
    return redirect(url_for("admin.mail", mail_id=mail.id, act=act), 303)
