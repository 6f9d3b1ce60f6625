"""The doctor notices settings that a pooler did not pass on."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly.cli import session_checks
from tests.support.servers import make_settings

SETTINGS = make_settings(database_timeout_seconds=5)


def test_a_direct_connection_has_all_of_them(session: Session) -> None:
    assert list(session_checks.findings(SETTINGS)) == []
    assert not session_checks.is_pooled()


@pytest.mark.parametrize(
    ("statement", "advice"),
    [
        ("SET LOCAL statement_timeout = 0", "SET statement_timeout = '60s'"),
        (
            "SET LOCAL idle_in_transaction_session_timeout = 0",
            "SET idle_in_transaction_session_timeout = '30s'",
        ),
        ("SET LOCAL jit = on", "SET jit = 'off'"),
    ],
)
def test_a_setting_that_is_missing(session: Session, statement: str, advice: str) -> None:
    session.execute(text(statement))
    [(level, message)] = session_checks.findings(SETTINGS)
    assert level == "warning"
    role = session.scalar(text("SELECT current_user"))
    assert f"ALTER ROLE {role} {advice}" in message


def test_values_of_the_operator_stay(session: Session) -> None:
    session.execute(text("SET LOCAL statement_timeout = '5min'"))
    assert list(session_checks.findings(SETTINGS)) == []
