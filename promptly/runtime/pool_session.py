"""SQLAlchemy's session, with a choice of the connection pool."""

from typing import Any

from flask_sqlalchemy.session import Session
from sqlalchemy import Connection, Engine

# The key of `Session.info` that names a reserved pool; without it, the session uses the pages'.
POOL = "promptly_pool"


class PoolSession(Session):
    """Flask-SQLAlchemy's session, over the pool that `info[POOL]` names."""

    def get_bind(
        self,
        mapper: Any = None,
        clause: Any = None,
        bind: Engine | Connection | None = None,
        **kwargs: Any,
    ) -> Engine | Connection:
        """Return the engine of the named pool."""
        if bind is None and POOL in self.info:
            return self._db.engines[self.info[POOL]]
        return super().get_bind(mapper, clause, bind, **kwargs)
