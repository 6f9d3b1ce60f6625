"""Totals, compared with their usage events counted in Python."""

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from promptly.models import AccountActivity, DailyOutcome, DailyTotal, UsageEvent
from promptly.services import account_deletion
from promptly.services.usage import rollups, statistics
from promptly.services.usage.statistics import ACTIVITY_DAYS
from tests.support import factories

FIGURES = ("requests", "prompt_tokens", "cached_prompt_tokens", "completion_tokens",
           "charged_tokens", "uncharged_tokens", "active_accounts", "duration_ms")  # fmt: skip


def today() -> date:
    # Not a module constant: a test run may pass midnight.
    return datetime.now(UTC).date()


def at(days_ago: int, clock: time = time(0, 0, 1)) -> datetime:
    return datetime.combine(today() - timedelta(days=days_ago), clock, tzinfo=UTC)


def roll_up() -> None:
    statistics.refresh(rollups.roll_up())


def event(user_id: int, days_ago: int = 0, **values: Any) -> UsageEvent:
    extra = {
        name: values.pop(name) for name in ("duration_ms", "uncharged_tokens") if name in values
    }
    row = factories.usage_event(user_id, created_at=at(days_ago), **values)
    for name, value in extra.items():
        setattr(row, name, value)
    return row


def counted(session: Session) -> tuple[dict[date, list[int]], dict[tuple[date, str], int]]:
    """Return all days' totals and outcomes, counted from the events."""
    totals: dict[date, list[int]] = defaultdict(lambda: [0] * len(FIGURES))
    users: dict[date, set[int]] = defaultdict(set)
    outcomes: dict[tuple[date, str], int] = defaultdict(int)
    for row in session.scalars(select(UsageEvent)):
        day = row.created_at.astimezone(UTC).date()
        users[day].add(row.user_id)
        outcomes[day, row.outcome] += 1
        charged = row.charged_paid + row.charged_trial
        added = (1, row.prompt_tokens, row.cached_prompt_tokens, row.completion_tokens, charged,
                 row.uncharged_tokens, 0, row.duration_ms)  # fmt: skip
        totals[day] = [old + new for old, new in zip(totals[day], added, strict=True)]
    for day, seen in users.items():
        totals[day][FIGURES.index("active_accounts")] = len(seen)
    return dict(totals), dict(outcomes)


def stored(session: Session) -> tuple[dict[date, list[int]], dict[tuple[date, str], int]]:
    session.expire_all()
    totals = {
        row.day: [getattr(row, name) for name in FIGURES]
        for row in session.scalars(select(DailyTotal))
    }
    outcomes = {
        (row.day, row.outcome): row.requests for row in session.scalars(select(DailyOutcome))
    }
    return totals, outcomes


def activity(session: Session) -> dict[int, tuple[int, int, datetime | None]]:
    session.expire_all()
    return {
        row.user_id: (row.requests, row.tokens, row.last_request_at)
        for row in session.scalars(select(AccountActivity))
    }


def versions(session: Session) -> set[tuple[str, str]]:
    """Return each row's table and ctid; every new version of a row has another ctid."""
    return {
        (table, str(row[0]))
        for table in ("daily_totals", "daily_outcomes", "account_activity")
        for row in session.execute(text(f"SELECT ctid FROM {table}"))
    }


@pytest.fixture
def busy(session: Session) -> list[int]:
    """Three accounts with events on many days, with several models and outcomes."""
    people = [factories.user(paid_tokens=100_000).id for _ in range(3)]
    outcomes = ("completed", "client_disconnected", "upstream_error", "rejected", "recovered")
    for number in range(60):
        event(
            people[number * 7 % 3],
            number % 45,
            model=f"model-{number % 4}",
            outcome=outcomes[number % 5],
            prompt_tokens=100 + number,
            cached_prompt_tokens=number,
            completion_tokens=number * 3,
            charged_paid=100 + number,
            uncharged_tokens=number * 3,
            duration_ms=1000 + number,
        )
    return people


@pytest.mark.usefixtures("busy")
def test_days_equal_their_events(session: Session) -> None:
    roll_up()
    assert stored(session) == counted(session)


def test_again_changes_and_writes_nothing(session: Session, busy: list[int]) -> None:
    roll_up()
    before = versions(session)
    assert len(before) > 50
    roll_up()
    assert versions(session) == before
    event(busy[0])
    roll_up()
    # Today's totals, one of today's outcomes, and one account.
    assert len(versions(session) - before) == 3


def test_late_settlements_are_counted(session: Session, busy: list[int]) -> None:
    roll_up()
    event(busy[0], 2, outcome="shutdown", charged_paid=15, duration_ms=9)
    session.execute(
        text("UPDATE usage_events SET outcome = 'completed' WHERE outcome = 'recovered'"
             " AND created_at >= :since"), {"since": at(2)}
    )  # fmt: skip
    roll_up()
    assert stored(session) == counted(session)


def test_days_without_a_worker_are_caught_up(session: Session, busy: list[int]) -> None:
    roll_up()
    session.execute(text("UPDATE sweep_states SET last_run_at = now() - interval '20 days'"))
    event(busy[1], 12)
    roll_up()
    assert stored(session) == counted(session)
    assert statistics.daily(today() - timedelta(days=12), today())[0]["day"] == at(12).date()


def test_totals_made_for_the_first_time_reach_back_to_the_first_event(
    session: Session, busy: list[int]
) -> None:
    rollups.roll_up()
    assert stored(session) == ({}, {})
    roll_up()
    assert stored(session) == counted(session)


def test_activity_is_the_windows_sum(session: Session, busy: list[int]) -> None:
    roll_up()
    since = at(ACTIVITY_DAYS - 1, time(0))
    for user_id in busy:
        rows = session.scalars(select(UsageEvent).where(UsageEvent.user_id == user_id)).all()
        recent = [row for row in rows if row.created_at >= since]
        tokens = sum(row.prompt_tokens + row.completion_tokens for row in recent)
        newest = max(row.created_at for row in rows)
        assert activity(session)[user_id] == (len(recent), tokens, newest)


def test_accounts_leave_the_window(session: Session) -> None:
    once, never = factories.user(), factories.user()
    event(once.id, ACTIVITY_DAYS - 1)
    roll_up()
    assert activity(session) == {once.id: (1, 15, at(ACTIVITY_DAYS - 1))}
    # The same roll-up, seen a day later.
    session.execute(text("UPDATE usage_rollups SET day = day - 1"))
    session.execute(text("UPDATE sweep_states SET last_run_at = last_run_at - interval '1 day'"))
    roll_up()
    assert activity(session) == {once.id: (0, 0, at(ACTIVITY_DAYS - 1))}
    event(once.id)
    event(never.id)
    roll_up()
    assert activity(session) == {once.id: (1, 15, at(0)), never.id: (1, 15, at(0))}


def test_older_totals_of_a_deleted_account_remain(session: Session) -> None:
    user, other = factories.user(), factories.user()
    for days_ago in (0, 10):
        event(user.id, days_ago)
        event(other.id, days_ago)
    roll_up()
    account_deletion.remove(user.id)
    roll_up()
    totals, _ = stored(session)
    assert {day: row[0] for day, row in totals.items()} == {at(0).date(): 1, at(10).date(): 2}
    assert set(activity(session)) == {other.id}


def test_a_roll_up_that_nothing_followed_is_caught_up(session: Session) -> None:
    one, two = factories.user(), factories.user()
    event(one.id)
    roll_up()
    event(two.id)
    rollups.roll_up()
    event(one.id)
    # Give the roll-up a moment of its own, as a separate transaction would.
    session.execute(text("UPDATE sweep_states SET last_run_at = last_run_at - interval '1 second'"
                         " WHERE name = 'usage_roll_up'"))  # fmt: skip
    roll_up()
    assert activity(session) == {one.id: (2, 30, at(0)), two.id: (1, 15, at(0))}


def test_only_accounts_that_changed_are_counted(session: Session) -> None:
    one, two = factories.user(), factories.user()
    event(one.id, 5)
    event(two.id, 5)
    roll_up()
    # A change made outside the roll-up goes unnoticed until the day is over.
    session.execute(text("UPDATE usage_rollups SET requests = 7"))
    event(one.id)
    roll_up()
    assert {key: row[0] for key, row in activity(session).items()} == {one.id: 8, two.id: 1}


def test_revenue_is_credits_less_refunds(session: Session) -> None:
    user = factories.user()
    now = datetime.now(UTC)
    values = [
        ("stripe", 0, True, 0), ("stripe", 0, True, 200), ("stripe", 0, False, 0),
        ("btcpay", 40, True, 50), ("stripe", None, True, 0),
    ]  # fmt: skip
    for provider, days_ago, livemode, reversed_minor in values:
        order = factories.order(user.id, provider=provider)
        order.credited_at = None if days_ago is None else at(days_ago)
        order.livemode, order.reversed_minor = livemode, reversed_minor
    session.flush()
    roll_up()
    today, then = at(0).date(), at(40).date()

    def sold() -> list[tuple[object, ...]]:
        return [tuple(row.values()) for row in statistics.revenue(then, now.date())]

    expected = [
        (then, "USD", True, 1, 200, 50), (today, "USD", True, 2, 400, 200),
        (today, "USD", False, 1, 200, 0),
    ]  # fmt: skip
    assert sold() == expected
    written = set(session.execute(text("SELECT ctid::text FROM daily_revenue")))
    roll_up()
    assert set(session.execute(text("SELECT ctid::text FROM daily_revenue"))) == written
    session.execute(text("UPDATE orders SET reversed_minor = 200 WHERE reversed_minor = 50"))
    session.execute(text("DELETE FROM orders WHERE NOT livemode"))
    roll_up()
    assert sold() == [(then, "USD", True, 1, 200, 200), (today, "USD", True, 2, 400, 200)]


def test_nothing_happened(session: Session) -> None:
    roll_up()
    assert stored(session) == ({}, {})
    assert activity(session) == {}
    assert statistics.daily(today(), today()) == statistics.outcomes(today(), today()) == []
