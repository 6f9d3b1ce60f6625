"""Delivery of mail: claim, create the key, send, record; each step commits on its own.

No transaction is open during the call to the mail server. A mail may be sent twice if the worker
dies at the wrong moment; the second sending carries a new key and the first key is revoked.
"""

import logging
from email.message import EmailMessage

from celery import shared_task

from promptly.clients import smtp
from promptly.models import OutboxMail
from promptly.services.accounts import accounts, keys
from promptly.services.leases import Lease
from promptly.services.mail import messages, outbox
from promptly.settings import Settings, current_settings
from promptly.transactions import transaction

logger = logging.getLogger(__name__)

# Limit per sweep; the next one, seconds later, continues.
MAILS_A_SWEEP = 50


@shared_task(name="promptly.tasks.mail.deliver")
def deliver(outbox_id: int) -> None:
    """Send one mail if it still waits and no other worker is sending it."""
    _send_next(outbox_id)


@shared_task(name="promptly.tasks.mail.sweep")
def sweep() -> None:
    """Send due mails: retries, those of dead workers, and those whose task the broker lost."""
    for _ in range(MAILS_A_SWEEP):
        if not _send_next():
            break


def _send_next(outbox_id: int | None = None) -> bool:
    """Send one due mail; return False if there is none, or no mail server is configured."""
    settings = current_settings()
    if not settings.smtp_host:
        return False
    with transaction():
        # The release after this one, which may run at the same time, sends mails of its own kinds.
        lease = outbox.claim(outbox_id, kinds=messages.SUBJECTS)
    if lease is None:
        return False
    prepared = _prepare(lease, settings)
    if prepared is None:
        return True
    message, attempts = prepared
    try:
        smtp.send(message, settings)
    except smtp.MailNotSent as problem:
        _record_problem(lease, attempts, problem)
    else:
        with transaction():
            outbox.record_sent(lease)
        logger.info("mail sent", extra={"outbox_id": lease.row_id, "attempts": attempts})
    return True


def _prepare(lease: Lease, settings: Settings) -> tuple[EmailMessage, int] | None:
    """Return the finished mail and its attempts, its key committed; None if it was cancelled."""
    with transaction():
        mail = _locked(lease)
        if mail is None:
            return None
        if mail.user_id is not None and accounts.is_closed(mail.user_id):
            # Stored after the account's deletion started, for instance by an incoming payment.
            outbox.cancel(mail.id)
            return None
        raw_key = None
        if mail.kind in messages.WITH_KEY and mail.user_id is not None:
            keys.revoke_of_mail(mail.user_id, mail.id)
            _, raw_key = keys.create(
                mail.user_id, "default", settings.key_pepper, outbox_id=mail.id
            )
        return messages.compose(mail, settings, raw_key), mail.attempts


def _record_problem(lease: Lease, attempts: int, problem: smtp.MailNotSent) -> None:
    with transaction():
        mail = _locked(lease)
        if mail is None:
            return
        if problem.final:
            outbox.record_failed(lease, problem.reason)
        else:
            outbox.record_retry(lease, attempts, problem.reason)
        # The key was not delivered, or only in a mail that counts as not sent.
        if mail.user_id is not None:
            keys.revoke_of_mail(mail.user_id, mail.id)
    logger.warning(
        "mail not sent",
        extra={"outbox_id": lease.row_id, "attempts": attempts, "final": problem.final},
    )


def _locked(lease: Lease) -> OutboxMail | None:
    # Lock the account before its mail, as everywhere.
    seen = outbox.peek(lease)
    if seen is not None and seen.user_id is not None:
        accounts.lock(seen.user_id)
    return outbox.leased(lease)
