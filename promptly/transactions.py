"""Transactions: the only place that commits, and that sends tasks after the commit.

Open `transaction()` at the edge (a view, a task, a command); services flush but never commit.
Tasks queued by `enqueue()` go to the broker after the commit and are dropped on a rollback. An
unreachable broker loses nothing: every task is only a hint, and a sweep finds its row.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.exceptions import OperationalError
from sqlalchemy.orm import Session

from promptly.extensions import db
from promptly.runtime.celery_app import celery
from promptly.runtime.pool_session import POOL

logger = logging.getLogger(__name__)

_QUEUED = "promptly_tasks"


@contextmanager
def transaction() -> Iterator[Session]:
    """Run the block in one transaction; commit at its end, roll back on any exception."""
    session = db.session()
    try:
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        session.info.pop(_QUEUED, None)
        raise
    for name, arguments in session.info.pop(_QUEUED, []):
        _send(name, arguments)


def use_pool(name: str) -> None:
    """Let this context's session use a reserved connection pool (`database.WEBHOOKS`, `API`).

    Call it before the first query.
    """
    db.session().info[POOL] = name


def release_connection() -> None:
    """Return the session's connection to its pool before a wait; call it only after reads."""
    db.session.rollback()


def enqueue(name: str, *arguments: Any) -> None:
    """Queue a task by name; it is sent once the surrounding transaction has committed.

    Arguments must be ids only: nothing private may reach the broker.
    """
    db.session().info.setdefault(_QUEUED, []).append((name, arguments))


def _send(name: str, arguments: tuple[Any, ...]) -> None:
    try:
        celery.send_task(name, args=arguments, retry=False)
    except (OperationalError, OSError) as problem:
        logger.warning(
            "task not queued, its sweep will find the row",
            extra={"task": name, "reason": type(problem).__name__},
        )
