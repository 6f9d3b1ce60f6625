"""Periods of the caps of keys: days, weeks from Monday, months, all in UTC; or for ever."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from promptly.models.states import CapPeriod

LABELS: Mapping[CapPeriod, str] = {
    CapPeriod.DAY: "a day",
    CapPeriod.WEEK: "a week",
    CapPeriod.MONTH: "a month",
    CapPeriod.EVER: "in all",
}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def start(period: CapPeriod, moment: datetime) -> datetime:
    """Return the start of the period that a moment belongs to; EPOCH for ever."""
    midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == CapPeriod.DAY:
        return midnight
    if period == CapPeriod.WEEK:
        return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1) if period == CapPeriod.MONTH else EPOCH


def end(period: CapPeriod, moment: datetime) -> datetime | None:
    """Return the start of the next period; None for ever."""
    started = start(period, moment)
    if period == CapPeriod.DAY:
        return started + timedelta(days=1)
    if period == CapPeriod.WEEK:
        return started + timedelta(days=7)
    if period == CapPeriod.MONTH:
        # Every month ends within 31 days of its first.
        return start(period, started + timedelta(days=31))
    return None
