"""The task that purges sessions: of the dashboard and the panel, and emails about sign-ins."""

from datetime import timedelta

from flask import Flask
from sqlalchemy import text

from promptly.clock import utcnow
from promptly.services import panel_sessions
from promptly.services.accounts import sessions
from promptly.tasks import accounts
from promptly.transactions import transaction
from tests.support import factories
from tests.support.races import run, together


def counts(app: Flask) -> list[int]:
    tables = ("sessions", "ended_panel_sessions", "outbox")
    with app.app_context(), transaction() as session:
        return [
            session.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables
        ]


def test_old_rows_are_purged_twice_and_in_parallel(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        key, _ = factories.api_key(factories.user().id)
        for number in range(2):
            sessions.start(key, "Firefox on Linux", f"192.0.{number}.0/24")
            panel_sessions.end(str(number))
        factories.mail("sign_in", user_id=key.user_id)
        old = {"old": utcnow() - timedelta(days=91)}
        session.execute(
            text("UPDATE sessions SET seen_at = :old WHERE network = '192.0.0.0/24'"), old
        )
        session.execute(text("UPDATE outbox SET created_at = :old WHERE payload = '{}'"), old)
        session.execute(
            text(
                "UPDATE ended_panel_sessions SET ended_at = :old WHERE ctid ="
                " (SELECT min(ctid) FROM ended_panel_sessions)"
            ),
            old,
        )
    assert counts(app) == [2, 2, 2]
    together(app, *[accounts.purge_sessions.run] * 3)
    run(app, accounts.purge_sessions)
    assert counts(app) == [1, 1, 1]
