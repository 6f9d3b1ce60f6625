"""The daily digest: once a day, with the panel's own figures of the UTC day."""

from datetime import UTC, date, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import select, text

from promptly.extensions import db
from promptly.models import OutboxMail, PaymentCase, PaymentReversal
from promptly.secret import Secret
from promptly.services.mail import messages
from promptly.services.usage import rollups, statistics
from promptly.tasks.operator_mail import send_digest
from promptly.transactions import transaction
from sandbox.mail import MailCatcher
from tests.blueprints.admin.panel import words
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.races import run, together

OPERATOR = "operator@example.com"
ADMIN_KEY = "the-operators-key-0123456789-abcdefgh"


@pytest.fixture
def app(app_factory: AppFactory, mail_catcher: MailCatcher) -> Flask:
    return app_factory(
        operator_email=OPERATOR,
        admin_key=Secret(ADMIN_KEY),
        smtp_host=mail_catcher.host,
        smtp_port=mail_catcher.port,
    )


def digests(app: Flask) -> list[str]:
    """Run the task in parallel and again; return the texts of all digests."""
    together(app, *[send_digest.run] * 3)
    run(app, send_digest)
    with app.app_context():
        rows = db.session.scalars(select(OutboxMail).order_by(OutboxMail.id)).all()
        parts = [
            messages.compose(row, app.extensions["settings"], None).get_body(("plain",))
            for row in rows
        ]
        assert {row.recipient for row in rows} <= {OPERATOR}
    return [part.get_content() for part in parts if part is not None]


def roll_up(app: Flask, *, seconds_after_midnight: float = 3600) -> None:
    """Roll up, as if at that time of today."""
    with app.app_context(), transaction() as session:
        statistics.refresh(rollups.roll_up())
        session.execute(
            text(
                "UPDATE sweep_states SET last_run_at ="
                " date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + :later"
                " WHERE name = 'usage_roll_up'"
            ),
            {"later": timedelta(seconds=seconds_after_midnight)},
        )


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def test_a_day_adds_up_with_the_panel(app: Flask) -> None:
    end = midnight(datetime.now(UTC).date())
    start = end - timedelta(days=1)
    moment = timedelta(microseconds=1)
    with app.app_context(), transaction() as session:
        user = factories.user(paid_tokens=10**6)
        user.created_at = start - moment
        for created_at in (start, end - moment, end):
            factories.user().created_at = created_at
        for number, created_at in enumerate((start - moment, start, end - moment, end)):
            factories.usage_event(
                user.id,
                created_at=created_at,
                prompt_tokens=10**number,
                completion_tokens=2 * 10**number,
                charged_paid=3 * 10**number,
            )
            order = factories.order(user.id, provider="btcpay", state="paid", amount_minor=200)
            order.credited_at, order.reversed_minor = created_at, 50
        session.add(PaymentCase(provider="stripe", checkout_id="x", kind="amount", detail="d"))
        for state in ("offered", "claimed", "claimed"):
            session.add(
                PaymentReversal(
                    order_id=order.id, kind="refund", provider="btcpay", amount_minor=1,
                    state=state, active=True, actor="cli:ada",
                )
            )  # fmt: skip
    roll_up(app)
    [mail_text] = digests(app)
    lines = " ".join(mail_text.split())
    figures = ("2", "110", "220", "330", "0", "1", "2", "$3.00 (2 purchases)")
    assert lines.startswith(
        f"{start:%Y-%m-%d} (UTC) requests {figures[0]} prompt tokens {figures[1]}"
        f" completion tokens {figures[2]} charged tokens {figures[3]} uncharged tokens {figures[4]}"
        f" active accounts {figures[5]} new accounts {figures[6]} revenue {figures[7]}"
    )
    assert "1 payment needs a decision http://127.0.0.1:8503/admin/cases" in lines
    assert "2 Bitcoin refunds to pay out http://127.0.0.1:8503/admin/cases#refunds" in lines
    assert "1 unclaimed Bitcoin refund http://127.0.0.1:8503/admin/cases#refunds" in lines
    page = words(app.test_client().get("/admin", query_string={"key": ADMIN_KEY}).text)
    assert page.count(f"{start:%Y-%m-%d} 2 0 110 220 1 ") == 1, "the row of the daily figures"
    row = page.partition(f"{start:%Y-%m-%d} 2 0 110 220 1 ")[2].split()
    assert "$3.00" in row[:8]


def test_it_waits_until_the_day_is_complete(app: Flask) -> None:
    assert digests(app) == []
    roll_up(app, seconds_after_midnight=-1)
    assert digests(app) == []
    roll_up(app, seconds_after_midnight=59)
    assert digests(app) == []
    roll_up(app, seconds_after_midnight=60)
    assert len(digests(app)) == 1


@pytest.mark.parametrize("days", [1, 5])
def test_the_next_one_is_of_yesterday_however_long_beat_was_down(app: Flask, days: int) -> None:
    roll_up(app)
    assert len(digests(app)) == 1
    with app.app_context(), transaction() as session:
        session.execute(
            text("UPDATE operator_alerts SET subject = (subject::date - :days)::text"),
            {"days": days},
        )
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    _, newest = digests(app)
    assert newest.startswith(yesterday.isoformat()) and "Nothing needs attention." in newest
    with app.app_context():
        kept = db.session.scalars(text("SELECT subject FROM operator_alerts")).all()
        assert kept == [yesterday.isoformat()]


def test_none_without_an_operator(app_factory: AppFactory) -> None:
    app = app_factory()
    roll_up(app)
    assert digests(app) == []
