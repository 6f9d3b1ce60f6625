import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.models import OutboxMail
from promptly.models.states import MailState
from promptly.services.mail import outbox
from promptly.transactions import transaction
from tests.support import factories
from tests.support.races import together


def refreshed(session: Session, mail: OutboxMail) -> OutboxMail:
    session.flush()
    session.refresh(mail)
    return mail


def test_a_lease_keeps_others_away_until_it_ends(session: Session) -> None:
    mail = factories.mail()
    lease = outbox.claim()
    assert lease is not None and lease.row_id == mail.id
    assert outbox.claim() is None and outbox.claim(mail.id) is None
    session.execute(text("UPDATE outbox SET leased_until = now() - interval '1 second'"))
    second = outbox.claim(mail.id)
    assert second is not None and second.holder != lease.holder
    # The first attempt reports late, and its report no longer counts.
    assert outbox.leased(lease) is None
    assert not outbox.record_sent(lease)
    assert outbox.record_sent(second)
    assert refreshed(session, mail).state == "sent" and mail.attempts == 2


def test_retries_wait_longer_and_end(session: Session) -> None:
    mail = factories.mail()
    waits = []
    for attempt in range(1, outbox.MAX_ATTEMPTS + 1):
        lease = outbox.claim(mail.id)
        assert lease is not None
        assert outbox.record_retry(lease, attempt, "451 later " + "x" * 1000)
        assert len(refreshed(session, mail).last_error or "") == outbox.ERROR_LENGTH
        assert outbox.claim(mail.id) is None
        waits.append(session.scalar(text("SELECT extract(epoch FROM next_at - now()) FROM outbox")))
        session.execute(text("UPDATE outbox SET next_at = now()"))
    assert [int(wait) for wait in waits[:3]] == [15, 30, 60]
    assert max(waits) <= outbox.LONGEST_DELAY_SECONDS
    assert mail.state == "failed" and mail.attempts == outbox.MAX_ATTEMPTS


def test_cancelled_mail_is_not_sent(session: Session) -> None:
    user = factories.user()
    waiting, leased = factories.mail(user_id=user.id), factories.mail(user_id=user.id)
    foreign = factories.mail()
    lease = outbox.claim(leased.id)
    assert lease is not None
    assert outbox.cancel_unsent(user.id) == 2
    assert outbox.leased(lease) is None and not outbox.record_sent(lease)
    assert outbox.claim(waiting.id) is None
    assert outbox.count("pending") == 1
    assert outbox.cancel(foreign.id) is not None and outbox.cancel(foreign.id) is None


@pytest.mark.parametrize("state", MailState)
def test_resend(session: Session, state: MailState) -> None:
    mail = factories.mail()
    mail.state, mail.attempts = state, 9
    session.flush()
    assert outbox.resend(mail.id) is not None
    assert (refreshed(session, mail).state, mail.attempts) == ("pending", 0)
    assert outbox.claim() is not None
    assert outbox.resend(mail.id + 1) is None


def test_many_workers_claim_each_mail_once(app: Flask) -> None:
    with app.app_context(), transaction():
        for _ in range(60):
            factories.mail()

    def work() -> list[int]:
        claimed: list[int] = []
        while True:
            with transaction():
                lease = outbox.claim()
            if lease is None:
                return claimed
            claimed.append(lease.row_id)

    claims = together(app, *[work] * 5)
    flat = [mail_id for part in claims for mail_id in part]
    # With SKIP LOCKED a worker may stop early; no mail is claimed twice, and none is lost.
    assert len(flat) == len(set(flat))
    with app.app_context():
        assert len(flat) + len(work()) == 60
