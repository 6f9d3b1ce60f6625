"""The one source of wall-clock time, so that tests can set it."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """The present moment, with time zone UTC."""
    return datetime.now(UTC)
