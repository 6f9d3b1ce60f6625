"""The lines of a statement add up to what the account owns, whatever happened to it."""

import threading
from datetime import UTC, date, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.errors import NotFound
from promptly.models import LedgerEntry
from promptly.services import account_deletion
from promptly.services.accounts import trials
from promptly.services.ledger import ledger, verification
from promptly.services.usage import account_statements, partitions, rollups
from promptly.services.usage.account_statements import Line
from promptly.transactions import transaction
from tests.support import factories

DAY = timedelta(days=1)


def lines(user_id: int, first: date | None = None, last: date | None = None) -> list[Line]:
    return list(account_statements.of(user_id, first, last).lines())


def check(found: list[Line], paid: int, trial: int) -> None:
    """Assert that the changes add up, line by line and in total."""
    assert sum(line.paid_delta for line in found) == paid
    assert sum(line.trial_delta for line in found) == trial
    running = 0
    for line in found:
        running += line.paid_delta + line.trial_delta
        assert line.balance_tokens == running
    moments = [line.created_at for line in found[1:]]
    assert moments == sorted(moments)
    assert found[0].kind == "opening"


def owned(session: Session, user_id: int) -> tuple[int, int]:
    row = session.execute(
        text("SELECT paid_tokens, trial_tokens FROM balances WHERE user_id = :id"), {"id": user_id}
    ).one()
    return int(row[0]), int(row[1])


def test_everything_that_moves_a_balance(app: Flask) -> None:
    with app.app_context():
        with transaction() as session:
            user = factories.user(paid_tokens=1000, trial_tokens=300)
            user_id = user.id
            factories.usage_event(user_id, charged_trial=100, charged_paid=20)
        with transaction():
            ledger.adjust(user_id, 5000, kind="purchase", reference="P-1", actor="stripe")
            ledger.adjust(user_id, -700, kind="purchase_reversed", reference="P-1/1", actor="s")
        with transaction() as session:
            session.execute(
                text(
                    "UPDATE token_purchases SET paid_tokens = paid_tokens + 77 WHERE user_id = :i"
                ),
                {"i": user_id},
            )
            session.execute(text("UPDATE balances SET trial_expires_at = now() - interval '1 s'"))
        with transaction():
            trials.expire()
        with transaction() as session:
            factories.usage_event(user_id, charged_paid=9, outcome="client_disconnected")
            factories.hold(user_id, held_paid=50)
            assert verification.verify() == []
            paid, trial = owned(session, user_id)
        found = lines(user_id)
        assert (paid, trial) == (1000 - 20 + 5000 - 700 + 77 - 9, 0)
        check(found, paid, trial)
        assert {line.kind for line in found} == {
            "opening", "adjustment", "usage", "purchase", "purchase_reversed", "operator_sql",
            "trial_lapse",
        }  # fmt: skip
        assert found[-1].balance_tokens == paid


def test_an_account_that_did_nothing(app: Flask) -> None:
    with app.app_context():
        with transaction():
            user = factories.user()
            user_id, created_at = user.id, user.created_at
        [opening] = lines(user_id)
        assert opening.created_at == created_at
        assert (opening.kind, opening.balance_tokens) == ("opening", 0)
        with pytest.raises(NotFound):
            account_statements.of(user_id + 1)


def test_after_pruning_it_opens_with_what_was_before(app: Flask) -> None:
    with app.app_context():
        with transaction() as session:
            user = factories.user(paid_tokens=10_000)
            other = factories.user(paid_tokens=10_000)
            user_id = user.id
            for month, charged in ((3, 100), (4, 200), (5, 400)):
                at = datetime(2021, month, 15, tzinfo=UTC)
                factories.usage_event(user_id, created_at=at, charged_paid=charged)
                factories.usage_event(other.id, created_at=at, charged_paid=7)
            user.created_at = datetime(2021, 3, 1, tzinfo=UTC)
            entry = session.query(LedgerEntry).filter_by(user_id=user_id).one()
            entry.created_at = datetime(2021, 3, 1, tzinfo=UTC)
            factories.usage_event(user_id, charged_paid=1)
        with transaction():
            partitions.make_ahead()
        with transaction():
            rollups.roll_up()
        whole = lines(user_id)
        check(whole, 9299, 0)
        assert [line.kind for line in whole] == ["opening", "adjustment", *["usage"] * 4]
        with transaction():
            dropped = partitions.drop_old(1, today=date(2021, 5, 10))
            assert dropped == ["usage_events_2021_03", "usage_events_2021_04"]
            assert verification.verify() == []
        pruned = lines(user_id)
        check(pruned, 9299, 0)
        assert [line.kind for line in pruned] == ["opening", "usage", "usage"]
        assert pruned[0].created_at == datetime(2021, 5, 1, tzinfo=UTC)
        assert pruned[0].balance_tokens == 9700


def test_some_days_only(app: Flask) -> None:
    with app.app_context():
        with transaction() as session:
            user_id = factories.user(paid_tokens=1000).id
            session.query(LedgerEntry).one().created_at = datetime(2026, 1, 1, tzinfo=UTC)
            for day, charged in ((2, 10), (3, 20), (4, 40)):
                at = datetime(2026, 1, day, 23, 59, 59, 999999, tzinfo=UTC)
                factories.usage_event(user_id, created_at=at, charged_paid=charged)
        found = lines(user_id, date(2026, 1, 3), date(2026, 1, 3))
        assert [(x.kind, x.balance_tokens) for x in found] == [("opening", 990), ("usage", 970)]
        check(found, 970, 0)
        assert lines(user_id, date(2026, 1, 4))[-1].balance_tokens == 930
        assert lines(user_id, None, date(2026, 1, 2))[-1].balance_tokens == 990
        check(lines(user_id, date(2030, 1, 1)), 930, 0)


def test_pages_lose_and_repeat_nothing(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_statements, "PAGE", 4)
    with app.app_context():
        at = datetime.now(UTC) - DAY
        with transaction():
            user_id = factories.user(paid_tokens=1000).id
            for number in range(20):
                # Five events share each moment, across page boundaries.
                moment = at + timedelta(seconds=number // 5)
                factories.usage_event(user_id, created_at=moment, charged_paid=1 + number)
            for _ in range(9):
                ledger.adjust(user_id, 10, actor="test")
        found = lines(user_id)
        ids = [line.details["request_id"] for line in found if line.kind == "usage"]
        assert len(ids) == len(set(ids)) == 20
        assert sum(line.kind == "adjustment" for line in found) == 10
        check(found, 1000 - 210 + 90, 0)


def test_a_late_booking_is_a_separate_line(app: Flask) -> None:
    with app.app_context():
        with transaction():
            user_id = factories.user(paid_tokens=1000).id
            factories.usage_event(user_id, charged_paid=5)
        reading = account_statements.of(user_id).lines()
        assert next(reading).kind == "opening"
        first = [next(reading), next(reading)]
        with transaction():
            # A late settlement is booked at a moment that the statement has already passed.
            factories.usage_event(user_id, created_at=datetime.now(UTC) - DAY, charged_paid=30)
        with transaction():
            # This event lies after the statement's end.
            factories.usage_event(user_id, charged_paid=100)
        rest = list(reading)
        assert [line.kind for line in first] == ["adjustment", "usage"]
        assert [(x.kind, x.paid_delta, x.balance_tokens) for x in rest] == [
            ("booked_late", -30, 965)
        ]


def test_it_adds_up_while_requests_settle(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_statements, "PAGE", 5)
    with app.app_context(), transaction():
        user_id = factories.user(paid_tokens=100_000).id
        for _ in range(50):
            factories.usage_event(user_id, charged_paid=3)
    stop = threading.Event()

    def spend() -> None:
        with app.app_context():
            while not stop.is_set():
                with transaction():
                    factories.usage_event(user_id, charged_paid=2)

    thread = threading.Thread(target=spend)
    thread.start()
    try:
        with app.app_context():
            for _ in range(5):
                statement = account_statements.of(user_id)
                found = list(statement.lines())
                assert all(line.created_at <= statement.end for line in found)
                check(found, found[-1].balance_tokens, 0)
                # Compare with the balance at the statement's end, computed from the current books.
                assert statement._sums(account_statements._OWNED, statement.end) == (
                    found[-1].balance_tokens, 0,
                )  # fmt: skip
    finally:
        stop.set()
        thread.join()


def test_an_account_that_goes_meanwhile(app: Flask) -> None:
    with app.app_context():
        with transaction():
            user_id = factories.user(paid_tokens=1000).id
        reading = account_statements.of(user_id).lines()
        next(reading)
        with transaction():
            account_deletion.remove(user_id)
        assert list(reading) == []
