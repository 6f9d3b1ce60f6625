import uuid
from datetime import UTC, date, datetime, time, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from promptly.errors import NotFound
from promptly.models import UsageRollup
from promptly.request_ids import new_request_id, public_id
from promptly.services.ledger import ledger, verification
from promptly.services.usage import partitions, rollups
from tests.support import factories


def today() -> date:
    # Not a module constant: a test run may pass midnight.
    return datetime.now(UTC).date()


def noon(days_ago: int) -> datetime:
    return datetime.combine(today() - timedelta(days=days_ago), time(0, 0, 1), tzinfo=UTC)


def daily(user_id: int) -> list[tuple[str, int, int]]:
    found = rollups.daily(user_id, today() - timedelta(days=60), today())
    return [(row["date"], row["requests"], row["charged_tokens"]) for row in found]


def day(days_ago: int) -> str:
    return (today() - timedelta(days=days_ago)).isoformat()


def test_days_are_exact_before_and_after_every_roll_up(session: Session) -> None:
    user, other = factories.user(paid_tokens=10_000), factories.user(paid_tokens=10_000)
    for days_ago in (0, 0, 1, 2, 3, 10, 40):
        factories.usage_event(user.id, created_at=noon(days_ago), charged_paid=15)
    factories.usage_event(other.id, charged_paid=1)
    expected = [(day(40), 1, 15), (day(10), 1, 15), (day(3), 1, 15), (day(2), 1, 15),
                (day(1), 1, 15), (day(0), 2, 30)]  # fmt: skip
    assert daily(user.id) == expected
    rollups.roll_up()
    assert daily(user.id) == expected
    rows = session.query(UsageRollup).filter_by(user_id=user.id).count()
    assert rows == 6
    rollups.roll_up()
    assert daily(user.id) == expected
    # Requests settled after a roll-up, yesterday's too, show at once.
    factories.usage_event(user.id, created_at=noon(1), charged_paid=5, model="another")
    assert daily(user.id)[-2] == (day(1), 2, 20)


def test_a_roll_up_touches_only_what_changed(session: Session) -> None:
    users = [factories.user(paid_tokens=100).id for _ in range(3)]
    for user_id in users:
        factories.usage_event(user_id, created_at=noon(1), charged_paid=1)
    assert sorted(rollups.roll_up().changed_accounts) == users
    assert rollups.roll_up().changed_accounts == []
    # Even a lock on a row leaves its mark in xmax.
    touched = text("SELECT user_id FROM usage_rollups WHERE xmax <> 0 ORDER BY user_id")
    assert session.scalars(touched).all() == []
    factories.usage_event(users[0], created_at=noon(1), charged_paid=1)
    session.execute(text("DELETE FROM usage_events WHERE user_id = :id"), {"id": users[2]})
    assert sorted(rollups.roll_up().changed_accounts) == [users[0], users[2]]
    assert session.scalars(text("SELECT requests FROM usage_rollups ORDER BY user_id")).all() == [
        2, 1,
    ]  # fmt: skip


def test_old_days_come_from_roll_ups(session: Session) -> None:
    user = factories.user(paid_tokens=100)
    factories.usage_event(user.id, created_at=noon(10), charged_paid=15)
    factories.usage_event(user.id, created_at=noon(2), charged_paid=15)
    rollups.roll_up()
    session.execute(text("DELETE FROM usage_events"))
    assert daily(user.id) == [(day(10), 1, 15)]
    rollups.roll_up()
    # The recent day has no events any more, so its roll-up is gone as well.
    assert session.query(UsageRollup).count() == 1


def test_days_that_a_sleeping_worker_missed_are_caught_up(session: Session) -> None:
    user = factories.user(paid_tokens=100)
    rollups.roll_up()
    session.execute(text("UPDATE sweep_states SET last_run_at = now() - interval '20 days'"))
    factories.usage_event(user.id, created_at=noon(15), charged_paid=15)
    factories.usage_event(user.id, created_at=noon(5), charged_paid=15)
    expected = [(day(15), 1, 15), (day(5), 1, 15)]
    assert daily(user.id) == expected
    assert rollups.roll_up().first_day == today() - timedelta(days=22)
    assert daily(user.id) == expected
    assert session.query(UsageRollup).count() == 2


def test_the_range_is_inclusive_and_in_utc(session: Session) -> None:
    user = factories.user()
    last_second = datetime.combine(today() - timedelta(days=2), time(23, 59, 59), tzinfo=UTC)
    factories.usage_event(user.id, created_at=last_second)
    factories.usage_event(user.id, created_at=noon(1))
    found = rollups.daily(user.id, today() - timedelta(days=2), today() - timedelta(days=2))
    assert [row["date"] for row in found] == [day(2)]
    assert found[0] == {
        "date": day(2),
        "requests": 1,
        "prompt_tokens": 10,
        "cached_prompt_tokens": 0,
        "completion_tokens": 5,
        "charged_tokens": 0,
    }


def test_cached_tokens_are_summed_from_roll_ups_and_events(session: Session) -> None:
    user = factories.user()
    for days_ago, cached in ((10, 7), (10, 2), (1, 3), (0, 10)):
        factories.usage_event(user.id, created_at=noon(days_ago), cached_prompt_tokens=cached)

    def cached_tokens() -> list[int]:
        found = rollups.daily(user.id, today() - timedelta(days=60), today())
        return [row["cached_prompt_tokens"] for row in found]

    assert cached_tokens() == [9, 3, 10]
    rollups.roll_up()
    assert cached_tokens() == [9, 3, 10]
    # A roll-up by the release before has left out the cached tokens of a recent day.
    session.execute(text("UPDATE usage_rollups SET cached_prompt_tokens = 0"))
    assert rollups.roll_up().changed_accounts == [user.id]
    stored = select(UsageRollup.cached_prompt_tokens).order_by(UsageRollup.day)
    assert session.scalars(stored).all() == [0, 3, 10]


def test_a_receipt_is_the_accounts_own(session: Session) -> None:
    user, other = factories.user(paid_tokens=50, trial_tokens=50), factories.user()
    event = factories.usage_event(user.id, charged_paid=5, charged_trial=10, cached_prompt_tokens=8)
    public = public_id(event.request_id)
    receipt = rollups.receipt(user.id, public)
    assert receipt == {
        "object": "receipt",
        "request_id": public,
        "created_at": f"{event.created_at:%Y-%m-%dT%H:%M:%S}Z",
        "endpoint": "chat.completions",
        "model": "test-model",
        "outcome": "completed",
        "prompt_tokens": 10,
        "cached_prompt_tokens": 8,
        "completion_tokens": 5,
        "price": "100:100:100",
        "charged_tokens": 15,
        "uncharged_tokens": 0,
        "balance_tokens": 85,
        "time_to_first_token_ms": 20,
        "duration_ms": 100,
    }
    assert rollups.recent(user.id) == [receipt]
    with pytest.raises(NotFound):
        rollups.receipt(other.id, public)


def test_no_receipt(session: Session) -> None:
    unknown = [public_id(new_request_id()), uuid.uuid4().hex]
    for request_id in [*unknown, "", "req_", "req_zz", "req_" + "f" * 32, "req_" + "0" * 32, "'"]:
        with pytest.raises(NotFound):
            rollups.receipt(1, request_id)


def test_partitions_are_made_ahead_and_take_in_strays(session: Session) -> None:
    user = factories.user(paid_tokens=100)
    factories.usage_event(user.id, created_at=datetime(2020, 2, 29, tzinfo=UTC), charged_paid=15)
    in_default = text("SELECT count(*) FROM usage_events_default")
    assert session.scalar(in_default) == 1
    far = today() + timedelta(days=200)
    made = partitions.make_ahead(far)
    assert "usage_events_2020_02" in made and f"usage_events_{far:%Y_%m}" in made
    assert session.scalar(in_default) == 0
    assert session.scalar(text("SELECT count(*) FROM usage_events_2020_02")) == 1
    assert partitions.make_ahead(far) == []
    columns = text("""
        SELECT count(*) FROM pg_indexes WHERE tablename = 'usage_events_2020_02'
    """)
    assert session.scalar(columns) == 3


def test_old_partitions_are_dropped_only_after_roll_up_and_the_books_stay_right(
    session: Session,
) -> None:
    user = factories.user(paid_tokens=1000, trial_tokens=100)
    long_ago = datetime(2020, 2, 29, tzinfo=UTC)
    for _ in range(2):
        factories.usage_event(user.id, created_at=long_ago, charged_paid=10, charged_trial=1)
    factories.usage_event(user.id, charged_paid=10)
    partitions.make_ahead()
    assert partitions.drop_old(0) == []
    assert partitions.drop_old(30) == []  # not rolled up yet
    rollups.roll_up()
    assert partitions.drop_old(365 * 50) == []
    assert partitions.drop_old(30) == ["usage_events_2020_02"]
    assert partitions.drop_old(30) == []
    closing = ledger.entries(user.id)[0]
    assert (closing.kind, closing.paid_delta, closing.trial_delta) == ("usage_closing", -20, -2)
    assert verification.verify() == []
    rollups.roll_up()
    found = rollups.daily(user.id, date(2020, 2, 1), date(2020, 3, 1))
    assert [(row["date"], row["charged_tokens"]) for row in found] == [("2020-02-29", 22)]


def test_a_request_of_long_ago_is_found_by_its_id(session: Session) -> None:
    user = factories.user(paid_tokens=100)
    event = factories.usage_event(user.id, created_at=datetime.now(UTC) - timedelta(days=40))
    found = rollups.receipt(user.id, public_id(event.request_id))
    assert found["created_at"].startswith(f"{event.created_at:%Y-%m-%d}")
