"""The doctor's check of what a connection pooler changes: session settings and connections."""

from collections.abc import Iterator

from sqlalchemy import text

from promptly.extensions import db
from promptly.runtime.database import session_settings
from promptly.settings import Settings

# `jit` on costs time, a timeout of 0 is none: both are what PostgreSQL has by default.
DANGEROUS = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "jit": "on"}

ACTUAL = text(
    "SELECT name, setting, current_user FROM pg_settings WHERE name = ANY(:names) ORDER BY name"
)


def is_pooled() -> bool:
    """Return whether a pooler is in between: clients get its own numbers, not PostgreSQL's pids."""
    connection = db.session.connection()
    announced = connection.connection.driver_connection.get_backend_pid()  # type: ignore[union-attr]
    return bool(announced != connection.scalar(text("SELECT pg_backend_pid()")))


def findings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield pairs of level and message, for settings that did not reach PostgreSQL."""
    wanted = session_settings(settings)
    rows = db.session.execute(ACTUAL, {"names": list(wanted)}).all()
    missing = [row for row in rows if row.setting == DANGEROUS[row.name]]
    if missing:
        role = missing[0].current_user
        statements = "; ".join(
            f"ALTER ROLE {role} SET {row.name} = '{_written(wanted[row.name])}'" for row in missing
        )
        yield "warning", f"the connection's options did not reach PostgreSQL; run: {statements}"


def _written(value: str) -> str:
    return f"{int(value) // 1000}s" if value.isdigit() else value
