from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.errors import InvalidRequest
from promptly.models import UsageBreakdown
from promptly.services.usage import breakdowns, partitions, rollups
from promptly.services.usage.breakdowns import GROUPS, Group
from tests.support import factories


def today() -> date:
    return datetime.now(UTC).date()


def noon(days_ago: int) -> datetime:
    return datetime.combine(today() - timedelta(days=days_ago), time(0, 0, 1), tzinfo=UTC)


def grouped(user_id: int, *by: Group, days: int = 60, **wanted: Any) -> list[dict[str, Any]]:
    start = today() - timedelta(days=days)
    return breakdowns.grouped(user_id, start, today(), by=by, **wanted)


def charged(user_id: int, *by: Group, **wanted: Any) -> list[tuple[Any, ...]]:
    """Return the groups of each row, its requests and what was charged."""
    rows = grouped(user_id, *by, **wanted)
    totals = breakdowns.TOTALS
    groups = [tuple(value for name, value in row.items() if name not in totals) for row in rows]
    return [
        (*group, row["requests"], row["charged_tokens"])
        for group, row in zip(groups, rows, strict=True)
    ]


def roll_up() -> None:
    rollups.roll_up()
    breakdowns.roll_up()


def spend(user_id: int, days_ago: int = 0, charged_paid: int = 15, **fields: Any) -> None:
    factories.usage_event(user_id, created_at=noon(days_ago), charged_paid=charged_paid, **fields)


def test_groups_before_and_after_every_roll_up(session: Session) -> None:
    user, other = factories.user(paid_tokens=10_000), factories.user(paid_tokens=10_000)
    spend(user.id, 1, key_id=1, model="a")
    spend(user.id, 1, key_id=2, model="a", charged_paid=40)
    spend(user.id, 0, key_id=1, model="b", endpoint="embeddings")
    spend(user.id, 0, key_id=1, model="b", outcome="timeout", charged_paid=1)
    spend(other.id, 0, key_id=3)
    for _ in range(3):
        assert charged(user.id, "key") == [(2, 1, 40), (1, 3, 31)]
        assert charged(user.id, "model") == [("a", 2, 55), ("b", 2, 16)]
        assert charged(user.id, "endpoint") == [("chat.completions", 3, 56), ("embeddings", 1, 15)]
        assert charged(user.id, "outcome") == [("completed", 3, 70), ("timeout", 1, 1)]
        assert charged(user.id, "day", "key") == [
            (today() - timedelta(days=1), 2, 1, 40),
            (today() - timedelta(days=1), 1, 1, 15),
            (today(), 1, 2, 16),
        ]
        assert charged(user.id, "model", key_ids=[1]) == [("b", 2, 16), ("a", 1, 15)]
        assert charged(user.id, "key", model="a") == [(2, 1, 40), (1, 1, 15)]
        assert charged(user.id, "key", model="c") == charged(user.id, "key", key_ids=[]) == []
        roll_up()
    rows = session.query(UsageBreakdown).filter_by(user_id=user.id).count()
    assert rows == 4


def test_all_groups_together_are_the_daily_totals(session: Session) -> None:
    user = factories.user(paid_tokens=10_000)
    # From before this roll-up: only the daily totals know these days later.
    spend(user.id, 20, key_id=1, cached_prompt_tokens=7)
    rollups.roll_up()
    spend(user.id, 1, key_id=2)
    roll_up()
    # An import adds to a day that this roll-up had finished.
    session.execute(text("UPDATE sweep_states SET last_run_at = last_run_at + interval '9 days'"))
    session.execute(
        text("UPDATE usage_rollups SET requests = 3, charged_tokens = 99 WHERE day = :day"),
        {"day": today() - timedelta(days=1)},
    )
    assert charged(user.id, "key") == [(0, 3, 99), (2, 1, 15)]
    assert charged(user.id, "outcome") == [(None, 3, 99), ("completed", 1, 15)]
    for by in (GROUPS, ("day",), ("key", "outcome")):
        assert_sums_agree(user.id, by)


def assert_sums_agree(user_id: int, by: Sequence[Group]) -> None:
    rows = grouped(user_id, *by)
    daily = rollups.daily(user_id, today() - timedelta(days=60), today())
    for name in breakdowns.TOTALS:
        assert sum(row[name] for row in rows) == sum(row[name] for row in daily)


def test_old_days_come_from_the_roll_up(session: Session) -> None:
    user = factories.user(paid_tokens=100)
    spend(user.id, 2, key_id=1)
    roll_up()
    session.execute(text("UPDATE sweep_states SET last_run_at = last_run_at + interval '9 days'"))
    session.execute(text("DELETE FROM usage_events"))
    assert charged(user.id, "key") == [(1, 1, 15)]


def test_days_that_only_the_release_before_rolled_up_are_caught_up(session: Session) -> None:
    user = factories.user(paid_tokens=100)
    roll_up()
    session.execute(
        text(
            "UPDATE sweep_states SET last_run_at = now() - interval '100 days'"
            f" WHERE name = '{breakdowns.SWEEP_NAME}'"
        )
    )
    spend(user.id, 75, key_id=1)
    rollups.roll_up()
    assert charged(user.id, "key", days=100) == [(1, 1, 15)]
    # Its events must not be dropped before they are.
    month = noon(75).strftime("usage_events_%Y_%m")
    partitions.make_ahead()
    assert partitions.drop_old(1) == []
    breakdowns.roll_up()
    assert partitions.drop_old(1) == [month]
    assert charged(user.id, "key", days=100) == [(1, 1, 15)]
    assert session.query(UsageBreakdown).count() == 1


def test_a_roll_up_touches_only_what_changed(session: Session) -> None:
    users = [factories.user(paid_tokens=100).id for _ in range(3)]
    for user_id in users:
        spend(user_id, 1, key_id=1)
    assert breakdowns.roll_up() == 3
    assert breakdowns.roll_up() == 0
    spend(users[0], 1, key_id=1)
    session.execute(text("DELETE FROM usage_events WHERE user_id = :id"), {"id": users[2]})
    assert breakdowns.roll_up() == 2
    assert charged(users[0], "key") == [(1, 2, 30)]
    assert charged(users[2], "key") == []


def test_rows_go_with_their_account_and_are_not_written_after_it(session: Session) -> None:
    user = factories.user(paid_tokens=100)
    spend(user.id, key_id=1)
    breakdowns.roll_up()
    session.execute(text("DELETE FROM users WHERE id = :id"), {"id": user.id})
    assert session.query(UsageBreakdown).count() == 0
    assert breakdowns.roll_up() == 0


def test_too_many_rows_are_refused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    user = factories.user(paid_tokens=100)
    for key_id in range(3):
        spend(user.id, key_id=key_id)
    monkeypatch.setattr(breakdowns, "MOST_ROWS", 2)
    with pytest.raises(InvalidRequest) as refused:
        grouped(user.id, "key")
    assert refused.value.param == "group_by"
    assert len(grouped(user.id, "model")) == 1
