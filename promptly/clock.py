"""Wall-clock time, in one place so that tests can set it."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Return the current time as an aware datetime in UTC."""
    return datetime.now(UTC)
