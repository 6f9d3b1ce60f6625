"""The SQL statements that a block of code sends, with their times and plans."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event, text

USAGE_EVENTS = "usage_events"

# Of a smaller partition, as of a month that has just begun, an index saves nothing.
SMALL_BYTES = 512 * 1024


@dataclass(frozen=True)
class Statement:
    """One statement as it was sent, and the time its execution took."""

    sql: str
    parameters: Any
    seconds: float

    @property
    def head(self) -> str:
        """The statement on one line."""
        return " ".join(self.sql.split())


@contextmanager
def watched(engine: Engine) -> Iterator[list[Statement]]:
    """Collect the statements of a block, in the order they ended."""
    seen: list[Statement] = []
    started: list[float] = []

    def before(*_: Any) -> None:
        started.append(time.perf_counter())

    def after(_conn: Any, _cursor: Any, sql: str, parameters: Any, *_: Any) -> None:
        seen.append(Statement(sql, parameters, time.perf_counter() - started.pop()))

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", before)
        event.remove(engine, "after_cursor_execute", after)


def explain(engine: Engine, statement: Statement) -> dict[str, Any]:
    """Return PostgreSQL's plan for a statement without running it; {} if it has no plan."""
    if statement.head.split(" ", 1)[0].upper() not in {"SELECT", "WITH", "INSERT", "UPDATE"}:
        return {}
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement.sql}", statement.parameters)
        [[[plan]]] = cursor.fetchall()
        found: dict[str, Any] = plan["Plan"]
        return found
    finally:
        connection.close()


def scanned_whole(engine: Engine, plan: dict[str, Any]) -> list[str]:
    """Return the partitions of usage events that a plan reads in full, except small ones.

    Months that have just begun have few events, future ones and the default partition none.
    """
    found = {
        str(node["Relation Name"])
        for node in _nodes(plan)
        if node.get("Node Type") == "Seq Scan"
        and str(node.get("Relation Name", "")).startswith(USAGE_EVENTS)
    }
    with engine.connect() as connection:
        return [
            name
            for name in sorted(found)
            if connection.scalar(text(f"SELECT pg_relation_size('{name}')")) >= SMALL_BYTES
        ]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if plan:
        yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)
