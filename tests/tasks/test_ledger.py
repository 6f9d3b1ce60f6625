"""The nightly verification of the ledger: once a night, also in parallel and after a restart."""

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import select, text

from promptly.extensions import db
from promptly.models import LedgerVerification
from promptly.services.ledger import verification
from promptly.tasks.ledger import verify
from promptly.transactions import transaction
from tests.support import factories
from tests.support.races import run, together


def results(app: Flask) -> list[int]:
    with app.app_context():
        rows = db.session.scalars(select(LedgerVerification).order_by(LedgerVerification.id))
        return [row.differences for row in rows]


def make_older(app: Flask, days: int) -> None:
    with app.app_context(), transaction() as session:
        session.execute(
            text("UPDATE ledger_verifications SET started_at = started_at - :age"),
            {"age": timedelta(days=days)},
        )


def test_the_ledger_is_verified_once_a_night(app: Flask) -> None:
    with app.app_context(), transaction():
        user_id = factories.user(paid_tokens=1000).id
    together(app, *[verify.run] * 3)
    run(app, verify)
    assert results(app) == [0]
    with app.app_context(), transaction() as session:
        session.execute(
            text("UPDATE balances SET paid_tokens = 7, trial_tokens = 1 WHERE user_id = :id"),
            {"id": user_id},
        )
    make_older(app, 1)
    together(app, *[verify.run] * 3)
    assert results(app) == [0, 2]
    with app.app_context():
        row = verification.newest()
        assert row is not None and row.started_at <= row.finished_at


@pytest.mark.parametrize(
    ("started", "now", "due"),
    [
        ("2026-03-01 02:59", "2026-03-01 03:00", True),
        ("2026-03-01 03:00", "2026-03-01 23:59", False),
        ("2026-03-01 03:00", "2026-03-02 02:59", False),
        ("2026-03-01 03:00", "2026-03-02 03:00", True),
        # Beat was down at the hour.
        ("2026-03-01 03:00", "2026-03-05 02:00", True),
    ],
)
def test_when_it_is_due(app_context: Flask, started: str, now: str, due: bool) -> None:
    def moment(words: str) -> datetime:
        return datetime.fromisoformat(words).replace(tzinfo=UTC)

    verification.record(0)
    row = verification.newest()
    assert row is not None
    row.started_at = moment(started)
    db.session.flush()
    assert verification.is_due(moment(now)) is due


def test_old_results_are_forgotten(app_context: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "KEPT", 3)
    assert verification.is_due(datetime.now(UTC))
    for differences in range(5):
        verification.record(differences)
    kept = db.session.scalars(
        select(LedgerVerification.differences).order_by(LedgerVerification.id)
    )
    assert kept.all() == [2, 3, 4]
