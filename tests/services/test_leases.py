"""The shared part of leases, on the mails of the outbox."""

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from promptly.extensions import db
from promptly.models import OutboxMail
from promptly.services.leases import Lease, Leases, new_holder
from promptly.transactions import transaction
from tests.support import factories

SECONDS = 120
LEASES = Leases(OutboxMail.id, OutboxMail.leased_by, OutboxMail.leased_until, SECONDS)
DUE = select(OutboxMail.id).order_by(OutboxMail.id)


def take(row_id: int) -> Lease | None:
    holder = new_holder()
    taken = db.session.scalar(LEASES.take(row_id, holder).returning(OutboxMail.id))
    return None if taken is None else Lease(taken, holder)


def take_first() -> Lease | None:
    holder = new_holder()
    taken = db.session.scalar(LEASES.take_first(DUE, holder).returning(OutboxMail.id))
    return None if taken is None else Lease(taken, holder)


def columns(session: Session, mail: OutboxMail) -> tuple[object, object]:
    session.refresh(mail)
    return mail.leased_by, mail.leased_until


@pytest.mark.parametrize("seconds_ago", [None, 1, 0, -1])
def test_a_lease_is_free_once_it_has_expired(session: Session, seconds_ago: int | None) -> None:
    mail = factories.mail()
    if seconds_ago is not None:
        mail.leased_by, mail.leased_until = "x", func.now() - timedelta(seconds=seconds_ago)
        session.flush()
    free = seconds_ago in {None, 1}
    lease = take(mail.id)
    assert (lease is not None) is free
    if lease is not None:
        until = session.scalar(select(func.now() + timedelta(seconds=SECONDS)))
        assert columns(session, mail) == (lease.holder, until)
    assert take_first() is None


def test_the_first_free_row_is_taken_in_order(session: Session) -> None:
    first, second, third = (factories.mail().id for _ in range(3))
    assert take(second) is not None
    assert [lease and lease.row_id for lease in (take_first(), take_first(), take_first())] == [
        first, third, None,
    ]  # fmt: skip


def test_a_row_that_another_is_just_taking_is_skipped(app: Flask) -> None:
    with app.app_context(), transaction():
        first, second = factories.mail().id, factories.mail().id
    with app.app_context(), transaction():
        mine = take_first()
        with app.app_context(), transaction():
            theirs = take_first()
            assert take_first() is None
    assert mine is not None and mine.row_id == first
    assert theirs is not None and theirs.row_id == second


def test_only_the_holder_changes_and_releases_a_row(session: Session) -> None:
    mail = factories.mail()
    lease = take(mail.id)
    assert lease is not None
    late = Lease(mail.id, new_holder())
    for statement in (LEASES.change(late).values(state="sent"), LEASES.release(late)):
        session.execute(statement)
    assert columns(session, mail)[0] == lease.holder and mail.state == "pending"
    assert session.scalar(select(OutboxMail.id).where(LEASES.held(late))) is None
    assert session.scalar(select(OutboxMail.id).where(LEASES.held(lease))) == mail.id
    session.execute(LEASES.change(lease).values(state="sent"))
    assert columns(session, mail)[0] == lease.holder and mail.state == "sent"
    session.execute(LEASES.release(lease))
    assert columns(session, mail) == (None, None)
    assert session.scalar(select(OutboxMail.id).where(LEASES.held(lease))) is None


def test_any_lease_is_cleared(session: Session) -> None:
    mail = factories.mail()
    assert take(mail.id) is not None
    session.refresh(mail)
    LEASES.clear(mail)
    session.flush()
    assert columns(session, mail) == (None, None) and take_first() is not None
