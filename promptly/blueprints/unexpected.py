"""Exceptions that are no errors of ours: outages of PostgreSQL, and bugs."""

import logging

import psycopg2
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from promptly.errors import PromptlyError, ServiceUnavailable

logger = logging.getLogger(__name__)

# Raised by SQLAlchemy when PostgreSQL is unavailable, but also for some statements that it refused.
_AWAY = (OperationalError, InterfaceError, PoolTimeout, psycopg2.OperationalError)


def translated(problem: Exception, request_id: str) -> PromptlyError:
    """Return the error that the client gets; log the cause if it is not ours."""
    if isinstance(problem, PromptlyError):
        return problem
    if isinstance(problem, _AWAY) and _means_away(problem):
        extra = {"request_id": request_id, "reason": type(problem).__name__}
        logger.warning("PostgreSQL is away", extra=extra)
        return ServiceUnavailable()
    logger.error("unexpected error", exc_info=problem, extra={"request_id": request_id})
    return PromptlyError()


def _means_away(problem: Exception) -> bool:
    if not isinstance(problem, DBAPIError):
        return True
    # An SQLSTATE means that the server answered. These classes mean that it cannot work now:
    # connection exceptions, insufficient resources, object state, operator intervention.
    state = getattr(problem.orig, "pgcode", None)
    return state is None or state[:2] in {"08", "53", "55", "57"}
