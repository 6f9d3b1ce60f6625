"""Celery tasks: thin wrappers of services, safe to run twice or concurrently."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from promptly.transactions import transaction


@contextmanager
def alone(name: str) -> Iterator[bool]:
    """Open a transaction with the lock of an exclusive task; yield whether the lock was free.

    The lock ends with the transaction, so a killed worker leaves none behind, and it works
    through a pooler in transaction mode.
    """
    with transaction() as session:
        statement = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
        yield bool(session.scalar(statement, {"name": f"promptly:{name}"}))
