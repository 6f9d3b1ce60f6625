"""Periods of caps: their starts and ends, the same in Python as in PostgreSQL."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from flask import Flask
from sqlalchemy import text

from promptly import cap_periods
from promptly.extensions import db
from promptly.models.states import CapPeriod

MOMENTS = [
    datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
    datetime(2028, 2, 29, 12, tzinfo=UTC),
    # A Sunday and a Monday.
    datetime(2026, 11, 29, 23, 30, tzinfo=UTC),
    datetime(2026, 11, 30, tzinfo=UTC),
]


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        (CapPeriod.DAY, MOMENTS[0], "2026-12-31", "2027-01-01"),
        (CapPeriod.WEEK, MOMENTS[0], "2026-12-28", "2027-01-04"),
        (CapPeriod.MONTH, MOMENTS[0], "2026-12-01", "2027-01-01"),
        (CapPeriod.MONTH, MOMENTS[1], "2027-01-01", "2027-02-01"),
        (CapPeriod.MONTH, MOMENTS[2], "2028-02-01", "2028-03-01"),
        (CapPeriod.WEEK, MOMENTS[3], "2026-11-23", "2026-11-30"),
        (CapPeriod.WEEK, MOMENTS[4], "2026-11-30", "2026-12-07"),
    ],
)
def test_starts_and_ends(period: CapPeriod, moment: datetime, start: str, end: str) -> None:
    assert cap_periods.start(period, moment) == datetime.fromisoformat(f"{start}T00:00:00Z")
    assert cap_periods.end(period, moment) == datetime.fromisoformat(f"{end}T00:00:00Z")


def test_for_ever_has_no_end() -> None:
    assert cap_periods.start(CapPeriod.EVER, MOMENTS[0]) == cap_periods.EPOCH
    assert cap_periods.end(CapPeriod.EVER, MOMENTS[0]) is None


def test_a_moment_elsewhere_belongs_to_its_day_in_utc() -> None:
    moment = datetime(2027, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert cap_periods.start(CapPeriod.DAY, moment) == datetime(2026, 12, 31, tzinfo=UTC)


def test_postgresql_agrees(app: Flask) -> None:
    with app.app_context():
        for moment in MOMENTS:
            for period in CapPeriod:
                found = db.session.scalar(
                    text("SELECT key_limits_period(:period, :moment)"),
                    {"period": str(period), "moment": moment},
                )
                assert found == cap_periods.start(period, moment)
