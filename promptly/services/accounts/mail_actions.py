"""What an operator does with a mail of the outbox: send it again, or stop it."""

from promptly.errors import InvalidRequest, NotFound
from promptly.models import OutboxMail
from promptly.services.accounts import accounts, keys
from promptly.services.mail import outbox


def resend(mail_id: int) -> OutboxMail:
    """Send a mail again, whatever became of it; raises NotFound.

    One with a key carries a new one, and the earlier one is revoked when it leaves.
    """
    _lock_account(mail_id)
    mail = outbox.resend(mail_id)
    if mail is None:
        raise NotFound("There is no such mail.")
    return mail


def cancel(mail_id: int) -> OutboxMail:
    """Do not send a mail that waits; a key that an attempt has made is revoked.

    Raises NotFound, and InvalidRequest if it does not wait any more.
    """
    _lock_account(mail_id)
    mail = outbox.cancel(mail_id)
    if mail is None:
        raise InvalidRequest("This mail does not wait any more.")
    if mail.user_id is not None:
        keys.revoke_of_mail(mail.user_id, mail.id)
    return mail


def _lock_account(mail_id: int) -> None:
    # The account before its mail, as everybody locks them.
    user_id = outbox.find(mail_id).user_id
    if user_id is not None:
        accounts.lock(user_id)
