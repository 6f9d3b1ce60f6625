"""The topics of alerts to the operator: queries for their subjects, and their words.

A query returns rows of one text, `subject`. `starting` finds the subjects to report, `lasting`
those whose alert goes on; every starting one is also lasting.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from promptly import labels, money
from promptly.extensions import db
from promptly.models import (
    LedgerVerification,
    Order,
    OutboxMail,
    PaymentCase,
    PaymentReversal,
    WebhookEvent,
)
from promptly.services.mail.messages import OPERATOR_KINDS
from promptly.services.operator_mail import outages
from promptly.services.overview import (
    LATE_BACKUP,
    LATE_BACKUP_HOURS,
    late_backup_at,
    shown_size,
)
from promptly.settings import Settings

# Subjects that a mail names one by one.
MOST_ITEMS = 20

# Number of subjects, the first of them, settings: the payload of the mail.
Describe = Callable[[int, list[str], Settings], dict[str, Any]]


@dataclass(frozen=True)
class Topic:
    """A kind of things that the operator is alerted of; `describe_end` if also of their end."""

    name: str
    starting: str
    lasting: str
    describe: Describe
    describe_end: Describe | None = None
    values: Callable[[Settings], Mapping[str, Any]] = lambda _: {}


def described(
    subject: str, advice: str, path: str, items: list[tuple[str, str]], count: int
) -> dict[str, Any]:
    """Return the payload of a mail; `path` and those of the items are below the panel's URL."""
    return {
        "subject": subject,
        "advice": advice,
        "path": path,
        "items": [{"text": words, "path": below} for words, below in items],
        "more": count - len(items),
    }


def _one_or_more(count: int, one: str, more: str) -> str:
    return one if count == 1 else more.format(count=f"{count:,}")


def _cases(count: int, subjects: list[str], settings: Settings) -> dict[str, Any]:
    query = (
        select(PaymentCase, Order.number)
        .outerjoin(Order, Order.id == PaymentCase.order_id)
        .where(PaymentCase.id.in_(map(int, subjects)))
        .order_by(PaymentCase.id)
    )
    items = []
    for case, number in db.session.execute(query):
        words = f"{labels.PROVIDERS[case.provider]}: {labels.plain(labels.CASES, case.kind)}"
        items.append((f"{words}, {number}" if number else words, f"/cases/{case.id}"))
    subject = _one_or_more(count, "A payment needs a decision", "{count} payments need a decision")
    advice = _one_or_more(
        count,
        "Money came that does not fit its order. It waits until you decide what to do with it.",
        "Money came that does not fit the orders. It waits until you decide what to do with each.",
    )
    return described(subject, advice, "/cases", items, count)


def _payouts(count: int, subjects: list[str], settings: Settings) -> dict[str, Any]:
    query = (
        select(PaymentReversal, Order)
        .join(Order, Order.id == PaymentReversal.order_id)
        .where(PaymentReversal.id.in_(map(int, subjects)))
        .order_by(PaymentReversal.id)
    )
    items = [
        (
            f"{order.number}: {money.shown(refund.amount_minor, order.paid_in)}",
            f"/purchases/{order.number}",
        )
        for refund, order in db.session.execute(query)
    ]
    subject = _one_or_more(
        count, "A Bitcoin refund waits for you", "{count} Bitcoin refunds wait for you"
    )
    advice = "The customer has claimed it. Approve the payout in BTCPay."
    return described(subject, advice, "/cases#refunds", items, count)


def _webhooks(count: int, subjects: list[str], settings: Settings) -> dict[str, Any]:
    query = select(WebhookEvent).where(WebhookEvent.id.in_(map(int, subjects)))
    items = [
        (f"{labels.PROVIDERS[event.provider]}: {event.type}", f"/webhooks/{event.id}")
        for event in db.session.scalars(query.order_by(WebhookEvent.id))
    ]
    subject = _one_or_more(
        count, "A webhook event has been parked", "{count} webhook events have been parked"
    )
    them = _one_or_more(count, "it", "them")
    advice = (
        f"promptly could not process {them}. The page says why; correct the cause and replay"
        f" {them}. Reconciliation finds payments all the same, unless it fails for the same reason."
    )
    return described(subject, advice, "/webhooks?state=parked", items, count)


def _mails(count: int, subjects: list[str], settings: Settings) -> dict[str, Any]:
    query = select(OutboxMail).where(OutboxMail.id.in_(map(int, subjects)))
    items = [
        (f"email {mail.id}: {labels.plain(labels.MAIL_KINDS, mail.kind)}", f"/outbox/{mail.id}")
        for mail in db.session.scalars(query.order_by(OutboxMail.id))
    ]
    subject = _one_or_more(count, "An email has failed", "{count} emails have failed")
    them, its = ("it", "its") if count == 1 else ("them", "their")
    advice = (
        f"The mail server refused {them}, or could not be reached for a day. The page shows the"
        f" answer. Correct {its} cause, then send {them} again from there."
    )
    return described(subject, advice, "/outbox?state=failed", items, count)


def _away(count: int, subjects: list[str], settings: Settings) -> dict[str, Any]:
    since = outages.since(subjects)
    items = [
        (f"{server}, since {since[server]:%Y-%m-%d %H:%M} UTC", "")
        for server in subjects
        if server in since
    ]
    subject = _one_or_more(
        count, "A model server is unavailable", "{count} model servers are unavailable"
    )
    advice = _one_or_more(
        count,
        "It has not answered for five minutes. Requests go to the other servers, or get 503 if"
        " there is none. You get another email when it answers.",
        "They have not answered for five minutes. Requests go to the other servers, or get 503 if"
        " there is none. You get another email when they answer.",
    )
    return described(subject, advice, "", items, count)


def _back(count: int, subjects: list[str], settings: Settings) -> dict[str, Any]:
    items = [(server, "") for server in subjects]
    subject = _one_or_more(
        count, "A model server is available again", "{count} model servers are available again"
    )
    advice = _one_or_more(
        count,
        "It answers, or is no longer configured.",
        "They answer, or are no longer configured.",
    )
    return described(subject, advice, "", items, count)


def _differences(count: int, subjects: list[str], settings: Settings) -> dict[str, Any]:
    verification = db.session.get_one(LedgerVerification, int(subjects[0]))
    found = verification.differences
    subject = _one_or_more(
        found, "The ledger has a difference", "The ledger has {count} differences"
    )
    advice = (
        f"The verification of {verification.finished_at:%Y-%m-%d %H:%M} UTC compared each stored"
        " figure with the entries that it sums up. 'flask --app wsgi ledger verify' lists what"
        " differs. Make a backup before you change anything, and look for what else has written to"
        " the database: promptly itself leaves no difference."
    )
    return described(subject, advice, "", [], 0)


def _size(count: int, subjects: list[str], settings: Settings) -> dict[str, Any]:
    limit = shown_size(settings.database_size_warn_bytes)
    advice = (
        "Is there enough room on its disk, and as much again for a restore? USAGE_RETENTION_DAYS"
        " limits how long usage is kept; DATABASE_SIZE_WARN_BYTES is the size from which you get"
        " this email."
    )
    return described(f"The database is larger than {limit}", advice, "", [], 0)


def _backup(count: int, subjects: list[str], settings: Settings) -> dict[str, Any]:
    made_at = late_backup_at()
    subject = f"The newest backup is more than {LATE_BACKUP_HOURS} hours old"
    advice = (
        "If one failed since, 'journalctl -u promptly-backup' or the mail of cron has the reason."
        " If none started, is its timer enabled? What happened since would be lost with the"
        " database."
    )
    newest = [(f"made on {made_at:%Y-%m-%d at %H:%M} UTC", "")] if made_at else []
    return described(subject, advice, "", newest, len(newest))


_PARKED = "SELECT id::text AS subject FROM webhook_events WHERE state = 'parked'"
_OPEN = "SELECT id::text AS subject FROM payment_cases WHERE resolution IS NULL"
_CLAIMED = "SELECT id::text AS subject FROM payment_reversals WHERE state = 'claimed' AND active"
# A failed mail to the operator must not cause another one.
_FAILED = """
SELECT id::text AS subject FROM outbox WHERE state = 'failed' AND kind <> ALL(:operator_kinds)
"""
# Each night's verification that finds something is news.
_NEWEST_DIFFERS = """
SELECT id::text AS subject FROM ledger_verifications
WHERE differences > 0 AND id = (SELECT max(id) FROM ledger_verifications)
"""
# Well below the limit before it can be passed again.
_LARGE = """
SELECT 'database' AS subject WHERE :limit > 0
AND pg_database_size(current_database()) > CAST(:limit AS bigint) * {factor}
"""
_LATE_BACKUP = f"SELECT name AS subject {LATE_BACKUP}"

TOPICS = (
    Topic("case", _OPEN, _OPEN, _cases),
    Topic("payout", _CLAIMED, _CLAIMED, _payouts),
    Topic("webhook", _PARKED, _PARKED, _webhooks),
    Topic(
        "mail",
        _FAILED,
        _FAILED,
        _mails,
        values=lambda _: {"operator_kinds": list(OPERATOR_KINDS)},
    ),
    Topic(
        outages.TOPIC,
        outages.STARTING,
        outages.LASTING,
        _away,
        describe_end=_back,
        values=lambda _: outages.VALUES,
    ),
    Topic("ledger", _NEWEST_DIFFERS, _NEWEST_DIFFERS, _differences),
    Topic(
        "database",
        _LARGE.format(factor="1"),
        _LARGE.format(factor="0.9"),
        _size,
        values=lambda settings: {"limit": settings.database_size_warn_bytes},
    ),
    Topic("backup", _LATE_BACKUP, _LATE_BACKUP, _backup),
)
