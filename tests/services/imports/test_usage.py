"""Imported usage, seen before and after roll-ups of promptly's own."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.extensions import db
from promptly.models import UsageRollup
from promptly.services.audit import Operator
from promptly.services.imports import accounts
from promptly.services.imports.outcome import State
from promptly.services.imports.source import SourceAccount
from promptly.services.ledger import verification
from promptly.services.usage import rollups, statistics
from tests.services.imports.test_accounts import SETTINGS, bring, user_of
from tests.support import factories, model_gateway


def day(days_ago: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days_ago)


def roll_up() -> None:
    statistics.refresh(rollups.roll_up())
    db.session.expire_all()


def totals() -> list[dict[str, Any]]:
    return statistics.daily(day(100), day(0))


def requests_of(account: SourceAccount) -> dict[str, int]:
    found = rollups.daily(user_of(account).id, day(100), day(0))
    return {row["date"]: row["requests"] for row in found}


def test_history_is_shown_and_survives_roll_ups(session: Session) -> None:
    roll_up()
    first = model_gateway.account(1, usage=[model_gateway.usage(10), model_gateway.usage(40)])
    second = model_gateway.account(
        2, usage=[model_gateway.usage(10, requests=3), model_gateway.usage(10, model="other")]
    )
    bring(first, second)
    assert requests_of(first) == {str(day(40)): 1, str(day(10)): 1}
    before = totals()
    assert [(row["day"], row["requests"], row["active_accounts"]) for row in before] == [
        (day(40), 1, 1), (day(10), 5, 2),
    ]  # fmt: skip
    # Charged there, so not here.
    assert [row["charged_tokens"] for row in before] == [0, 0]
    factories.usage_event(user_of(first).id, prompt_tokens=0, completion_tokens=0)
    for _ in range(2):
        roll_up()
    assert requests_of(second) == {str(day(10)): 4}
    assert totals()[:2] == before
    assert verification.verify() == []


def test_recent_usage_is_in_the_list_of_accounts(session: Session) -> None:
    roll_up()
    bring(model_gateway.account(usage=[model_gateway.usage(10, requests=2)]))
    statistics.recount()
    roll_up()
    assert session.scalar(text("SELECT requests FROM account_activity")) == 2


def test_the_last_days_follow_when_no_roll_up_rebuilds_them(session: Session) -> None:
    recent = [model_gateway.usage(days_ago) for days_ago in (1, 2, 3)]
    old = model_gateway.account(usage=recent)
    [outcome] = bring(old)
    assert outcome.usage_days == 1
    # Two days later, with usage here on one of them.
    factories.usage_event(
        user_of(old).id, created_at=datetime.now(UTC) - timedelta(days=2), model="old-model"
    )
    roll_up()
    session.execute(text("UPDATE sweep_states SET last_run_at = now() + interval '2 days'"))
    run = accounts.begin(SETTINGS, Operator("test"))
    later = accounts.bring_over(old, replace(run, until=day(0)))
    assert (later.state, later.usage_days) == (State.UPDATED, 2)
    again = accounts.bring_over(old, replace(run, until=day(0)))
    assert (again.state, again.usage_days) == (State.UNCHANGED, 0)
    rows = session.query(UsageRollup).order_by(UsageRollup.day).all()
    assert [(row.day, row.requests) for row in rows] == [(day(3), 1), (day(2), 2), (day(1), 1)]
    assert [(row["day"], row["active_accounts"]) for row in totals()] == [
        (day(3), 1), (day(2), 1), (day(1), 1),
    ]  # fmt: skip


def test_a_roll_up_that_is_behind_holds_usage_back(session: Session) -> None:
    rollups.roll_up()
    session.execute(text("UPDATE sweep_states SET last_run_at = now() - interval '20 days'"))
    old = model_gateway.account(usage=[model_gateway.usage(15), model_gateway.usage(30)])
    [outcome] = bring(old)
    assert outcome.usage_days == 1
    roll_up()
    assert requests_of(old) == {str(day(30)): 1}
    [outcome] = bring(old)
    assert outcome.usage_days == 1
    roll_up()
    assert requests_of(old) == {str(day(30)): 1, str(day(15)): 1}
