"""No statement leaves anything in a session, which a pooler hands on to others (ADR 29)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

LEFT_BEHIND = {
    "a setting": r"^\s*(RE)?SET\s+(?!LOCAL\b|TRANSACTION\b|CONSTRAINTS\b|NULL$)\w",
    "a setting by function": r"\bset_config\s*\([^()]*,\s*false\s*\)",
    "an advisory lock": r"\bpg_(try_)?advisory_(lock|unlock)",
    "a subscription": r"^\s*(UN)?LISTEN\s+\w",
    "a prepared statement": r"^\s*(PREPARE|DEALLOCATE)\s+\w",
    "a temporary table": r"\bCREATE\s+(LOCAL\s+|GLOBAL\s+)?TEMP(ORARY)?\b|\bpg_temp\b",
    "a cursor": r"\bDECLARE\s+\w+\s+.*\bCURSOR\s+WITH\s+HOLD\b",
}
# Calls of psycopg2 and SQLAlchemy that keep something on the server.
CALLS = {"set_isolation_level", "stream_results", "yield_per", "server_side_cursors"}


def statements(path: Path) -> Iterator[str]:
    """Yield a file's SQL: the texts of Python code, or a whole file of SQL."""
    if path.suffix == ".sql":
        yield re.sub(r"--.*", "", path.read_text())
        return
    # SQL is written with keywords in capitals, so that prose is not taken for it.
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def left_behind(text: str) -> list[str]:
    """Return the kinds of session state that the statements of a text leave behind."""
    found = []
    for statement in text.split(";"):
        # A clause of UPDATE may begin a line with SET.
        if re.search(r"\bUPDATE\b", statement):
            statement = re.sub(r"^\s*SET\b", "", statement, flags=re.MULTILINE)
        found += [
            name for name, kind in LEFT_BEHIND.items() if re.search(kind, statement, re.MULTILINE)
        ]
    return found


def test_no_statement_leaves_anything_in_a_session(project: Path) -> None:
    files = [*(project / "promptly").rglob("*.py"), project / "migrations/env.py"]
    files += [
        *(project / "migrations").rglob("*.sql"),
        *(project / "migrations/versions").glob("*.py"),
    ]
    found = [
        (str(path.relative_to(project)), name)
        for path in files
        for statement in statements(path)
        for name in left_behind(statement)
    ]
    assert found == []


def test_no_call_keeps_a_cursor_on_the_server(project: Path) -> None:
    found = [
        str(path.relative_to(project))
        for path in (project / "promptly").rglob("*.py")
        if any(name in path.read_text() for name in CALLS)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("SET statement_timeout = 0", ["a setting"]),
        ("SELECT 1; SET TIME ZONE 'UTC'; ", ["a setting"]),
        ("SELECT set_config('jit', 'off', false)", ["a setting by function"]),
        ("SELECT set_config('jit', 'off', true)", []),
        ("SET LOCAL jit = off", []),
        ("UPDATE holds\nSET state = 'open'", []),
        ("SELECT pg_advisory_lock(1)", ["an advisory lock"]),
        ("SELECT pg_advisory_xact_lock(1)", []),
        ("LISTEN jobs", ["a subscription"]),
        ("PREPARE one AS SELECT 1", ["a prepared statement"]),
        ("CREATE TEMP TABLE one (a int)", ["a temporary table"]),
    ],
)
def test_the_rule_itself(statement: str, names: list[str]) -> None:
    assert left_behind(statement) == names
