"""Whether each connection pool of this process still gives out connections to PostgreSQL."""

import logging
import threading
import time

import psycopg2
from gevent import Timeout
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from promptly.errors import PromptlyError
from promptly.extensions import db
from promptly.gateway import current_gateway
from promptly.runtime.connection_pool import PoolExhausted
from promptly.runtime.database import RESERVED_POOL_SIZES

logger = logging.getLogger(__name__)

OK, AWAY, EXHAUSTED = "ok", "away", "exhausted"
# Free connections come back within milliseconds, unless something holds them.
WAIT_SECONDS = 2.0


class PoolChecks:
    """The states of all pools; parallel callers share a check and its few connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began_at = 0.0
        self._states: dict[str, str] = {}

    def states(self) -> dict[str, str]:
        """Return `ok`, `away` or `exhausted` by the name of each pool."""
        arrived_at = time.monotonic()
        with self._lock:
            # A check that began while this caller waited is as good as one of its own.
            if self._began_at < arrived_at:
                self._began_at = time.monotonic()
                self._states = _states()
            return self._states


def _states() -> dict[str, str]:
    names = {"postgresql pages": None} | {
        f"postgresql {name}": name for name in RESERVED_POOL_SIZES
    }
    hot_path = _hot_path()
    if hot_path == AWAY:
        return dict.fromkeys(["postgresql", *names], AWAY)
    engines = db.engines
    return {"postgresql": hot_path} | {name: _pool(engines[key]) for name, key in names.items()}


def _hot_path() -> str:
    try:
        row = current_gateway().database.fetch_one("SELECT 1 FROM alembic_version", {})
    except (PromptlyError, psycopg2.Error) as problem:
        logger.info("PostgreSQL not ready", extra={"reason": type(problem).__name__})
        return EXHAUSTED if isinstance(problem.__cause__, PoolExhausted) else AWAY
    return AWAY if row is None else OK


def _pool(engine: Engine) -> str:
    try:
        with Timeout(WAIT_SECONDS), engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except (Timeout, PoolTimeout):
        return EXHAUSTED
    except SQLAlchemyError as problem:
        logger.info("PostgreSQL not ready", extra={"reason": type(problem).__name__})
        return AWAY
    return OK
