"""Operators' actions on a mail in the outbox: send it again, or cancel it."""

from promptly.errors import InvalidRequest, NotFound
from promptly.models import OutboxMail
from promptly.services.accounts import accounts, keys
from promptly.services.mail import outbox


def resend(mail_id: int) -> OutboxMail:
    """Send a mail again, whatever its state; raises NotFound.

    A mail with a key carries a new one; the earlier key is revoked when the mail is sent.
    """
    _lock_account(mail_id)
    mail = outbox.resend(mail_id)
    if mail is None:
        raise NotFound("There is no such mail.")
    return mail


def cancel(mail_id: int) -> OutboxMail:
    """Cancel an unsent mail and revoke the key that an attempt to send it has created.

    Raises NotFound, and InvalidRequest if the mail no longer waits.
    """
    _lock_account(mail_id)
    mail = outbox.cancel(mail_id)
    if mail is None:
        raise InvalidRequest("This email has already been sent, has failed or was cancelled.")
    if mail.user_id is not None:
        keys.revoke_of_mail(mail.user_id, mail.id)
    return mail


def _lock_account(mail_id: int) -> None:
    # Lock the account before its mail, as everywhere.
    user_id = outbox.find(mail_id).user_id
    if user_id is not None:
        accounts.lock(user_id)
