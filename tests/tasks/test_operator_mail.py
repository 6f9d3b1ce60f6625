"""Alerts to the operator: each thing is provoked, and mailed once with a link that leads to it."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from flask import Flask
from sqlalchemy import func, select, text

from promptly.extensions import db
from promptly.models import OutboxMail
from promptly.secret import Secret
from promptly.services import audit, drains
from promptly.services.accounts import accounts
from promptly.services.mail import messages, outbox
from promptly.services.operator_mail import alerts, outages
from promptly.services.payments import case_decisions, webhook_inbox
from promptly.tasks import ledger, mail
from promptly.tasks.operator_mail import alert, probe
from promptly.transactions import transaction
from sandbox.btcpay import SimulatedBTCPay
from sandbox.llama import SimulatedLlama
from sandbox.mail import MailCatcher
from sandbox.stripe import SimulatedStripe
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.races import run, together
from tests.support.shop import Shop, Site, configuration

OPERATOR = "operator@example.com"
ADMIN_KEY = "the-operators-key-0123456789-abcdefgh"
PANEL = "http://100.64.0.1:8503/admin"
LINK = re.compile(rf"^ *{re.escape(PANEL)}(\S*)$", re.MULTILINE)


class Operator:
    """One application's operator: alerts, as mails in the outbox, and the panel."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self._panel = app.test_client()
        with app.app_context():
            self._seen = db.session.scalar(select(func.max(OutboxMail.id))) or 0

    def news(self) -> list[str]:
        """Run the task in parallel and again; return the texts of the new mails."""
        together(self.app, *[alert.run] * 2)
        run(self.app, alert)
        settings = self.app.extensions["settings"]
        with self.app.app_context():
            query = select(OutboxMail).where(
                OutboxMail.recipient == OPERATOR, OutboxMail.id > self._seen
            )
            rows = db.session.scalars(query.order_by(OutboxMail.id)).all()
            self._seen = max([self._seen, *[row.id for row in rows]])
            parts = [messages.compose(row, settings, None).get_body(("plain",)) for row in rows]
        return [part.get_content() for part in parts if part is not None]

    def page(self, link: str) -> str:
        """Return the page of the panel that a link of a mail leads to."""
        separator = "&" if "?" in link else "?"
        answer = self._panel.get(f"/admin{link}{separator}key={ADMIN_KEY}")
        assert answer.status_code == 200, link
        return answer.text

    def execute(self, statement: str, **values: Any) -> None:
        with self.app.app_context(), transaction() as session:
            session.execute(text(statement), values)

    def pass_time(self, **duration: float) -> None:
        """Make the alerts older."""
        self.execute(
            "UPDATE operator_alerts SET created_at = created_at - :age, ended_at = ended_at - :age",
            age=timedelta(**duration),
        )


Employ = Callable[..., Operator]


@pytest.fixture
def employ(app_factory: AppFactory, mail_catcher: MailCatcher) -> Employ:
    """Factory for operators, each of an application with these settings."""

    def build(**values: object) -> Operator:
        given = {
            "operator_email": OPERATOR,
            "admin_url": PANEL,
            "admin_key": Secret(ADMIN_KEY),
            "smtp_host": mail_catcher.host,
            "smtp_port": mail_catcher.port,
        }
        return Operator(app_factory(**{**given, **values}))

    return build


@pytest.fixture
def operator(employ: Employ) -> Operator:
    return employ()


@pytest.fixture
def shop(
    employ: Employ, stripe_server: SimulatedStripe, btcpay_server: SimulatedBTCPay
) -> Iterator[tuple[Shop, Operator]]:
    """A shop that both providers deliver to, and its operator."""
    operator = employ(**configuration(stripe_server, btcpay_server))
    site = Site(operator.app)
    shop = Shop(operator.app, site.url, stripe_server, btcpay_server)
    shop.open()
    yield shop, operator
    site.stop()


def links(mail_text: str) -> list[str]:
    return LINK.findall(mail_text)


def park(operator: Operator, count: int, first: int = 0) -> None:
    operator.execute(
        "INSERT INTO webhook_events (provider, event_id, type, state)"
        " SELECT 'stripe', 'evt_' || n, 'charge.updated', 'parked'"
        " FROM generate_series(:first, :last) AS n",
        first=first,
        last=first + count - 1,
    )


def test_a_payment_that_needs_a_decision(shop: tuple[Shop, Operator]) -> None:
    store, operator = shop
    assert operator.news() == []
    pages = [store.order(store.account()) for _ in range(2)]
    for page in pages:
        store.stripe.alter(page, amount_total=100)
        store.stripe.pay(page)
        store.stripe.wait_until_quiet()
        store.work()
        store.reconcile()
        [mail_text] = operator.news()
        case, number = store.cases()[-1], store.order_of(page)["number"]
        assert "A payment needs a decision" in mail_text
        assert f"Stripe: amount mismatch, {number}" in mail_text
        assert links(mail_text) == [f"/cases/{case['id']}", "/cases"]
        assert number in operator.page(f"/cases/{case['id']}")
        assert number in operator.page("/cases")
    with store.app.app_context(), transaction():
        case_decisions.resolve(store.cases()[0]["id"], "dismiss", actor="cli:ada", note="seen")
    assert operator.news() == []


def test_a_bitcoin_refund_that_was_claimed(shop: tuple[Shop, Operator]) -> None:
    store, operator = shop
    page = store.order(store.account(), method="btcpay")
    store.btcpay.pay(page)
    store.reconcile()
    number = store.order_of(page)["number"]
    offer = str(store.refund(number).provider_id)
    assert operator.news() == [], "the customer has to claim it"
    store.btcpay.claim(offer)
    store.reconcile()
    [mail_text] = operator.news()
    assert "A Bitcoin refund waits for you." in mail_text and f"{number}: $2.00" in mail_text
    assert "Approve the payout in BTCPay." in mail_text
    assert links(mail_text) == [f"/purchases/{number}", "/cases#refunds"]
    assert "claimed: approve the payout" in operator.page(f"/purchases/{number}")
    store.btcpay.pay_out(offer)
    store.reconcile()
    assert operator.news() == []


def test_a_parked_webhook(shop: tuple[Shop, Operator]) -> None:
    store, operator = shop
    page = store.order(store.account())
    store.rows("DELETE FROM orders")
    store.stripe.pay(page)
    store.stripe.wait_until_quiet()
    store.work()
    # The money is a case besides.
    parked = [mail_text for mail_text in operator.news() if "webhook" in mail_text]
    [event] = store.events()
    assert event["state"] == "parked" and len(parked) == 1
    assert "A webhook event has been parked" in parked[0]
    assert links(parked[0]) == [f"/webhooks/{event['id']}", "/webhooks?state=parked"]
    assert event["reason"].split()[-1] in operator.page(f"/webhooks/{event['id']}")
    assert f"/admin/webhooks/{event['id']}" in operator.page("/webhooks?state=parked")
    # A replay that fails again is news.
    with store.app.app_context(), transaction():
        webhook_inbox.replay(event["id"])
    assert operator.news() == []
    store.work()
    [again] = operator.news()
    assert links(again) == links(parked[0])


def test_a_failed_mail_but_not_one_to_the_operator(
    operator: Operator, mail_catcher: MailCatcher
) -> None:
    with operator.app.app_context(), transaction():
        accounts.register("ada@example.com", operator.app.extensions["settings"])
    mail_catcher.fail_with(550)
    run(operator.app, mail.sweep)
    [mail_text] = operator.news()
    assert "An email has failed" in mail_text and ": new key" in mail_text
    assert "ada@example.com" not in mail_text
    [link, below] = links(mail_text)
    assert "550" in operator.page(link) and below == "/outbox?state=failed"
    assert f"/admin{link}" in operator.page(below)
    # The mail about it fails too, and causes no other.
    mail_catcher.fail_with(550)
    run(operator.app, mail.sweep)
    with operator.app.app_context():
        assert outbox.count("failed") == 2
    assert operator.news() == []
    # Sent again, and failed again.
    with operator.app.app_context(), transaction():
        outbox.resend(int(link.rpartition("/")[2]))
    assert operator.news() == []
    mail_catcher.fail_with(550)
    run(operator.app, mail.sweep)
    assert len(operator.news()) == 1


def test_a_model_server_that_is_away(
    employ: Employ, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = SimulatedLlama().start()
    operator = employ(llama_base_url=(server.url,), upstream_connect_timeout_seconds=1)
    age = "UPDATE model_server_outages SET since = since - :age"
    try:
        run(operator.app, probe)
        assert operator.news() == []
        server.stop()
        together(operator.app, *[probe.run] * 3)
        operator.execute(age, age=timedelta(seconds=10))
        run(operator.app, probe)
        assert operator.news() == []
        # Neither another process nor a Redis without memory starts the five minutes anew.
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        successor = employ(llama_base_url=(server.url,), upstream_connect_timeout_seconds=1)
        run(successor.app, probe)
        operator.execute(age, age=timedelta(seconds=outages.REPORTED_SECONDS))
        run(successor.app, probe)
        [mail_text] = operator.news()
        assert "A model server is unavailable" in mail_text
        assert f"{server.url}, since 20" in mail_text
        assert links(mail_text) == [""] and server.url.split("//")[1] in operator.page("")
        run(operator.app, probe)
        assert operator.news() == []
        server.start()
        run(operator.app, probe)
        [mail_text] = operator.news()
        assert "A model server is available again" in mail_text and server.url in mail_text
        run(operator.app, probe)
        assert operator.news() == []
    finally:
        server.stop()


def test_a_drained_server_may_be_away(employ: Employ) -> None:
    url = "http://127.0.0.1:1"
    operator = employ(llama_base_url=(url,), upstream_connect_timeout_seconds=1)
    with operator.app.app_context(), transaction():
        drains.drain(url, audit.Operator("cli:ada"))
    run(operator.app, probe)
    with operator.app.app_context():
        assert outages.since([url]) == {}
        with transaction():
            drains.resume(url, audit.Operator("cli:ada"))
    run(operator.app, probe)
    with operator.app.app_context():
        assert set(outages.since([url])) == {url}


def test_an_outage_starts_anew_after_a_gap_without_probes(operator: Operator) -> None:
    def away(old: str) -> list[str]:
        operator.execute(
            f"UPDATE model_server_outages SET since = now() - interval '{old}',"
            f" seen_at = now() - interval '{old}'"
        )
        with operator.app.app_context(), transaction():
            outages.record({"http://gpu": False, "http://other": True})
        return operator.news()

    assert away("0 s") == []
    assert away("90 s") == []
    assert away("1 hour") == [], "it may have been there in between"
    operator.execute("UPDATE model_server_outages SET since = now() - interval '5 minutes'")
    assert len(operator.news()) == 1
    # A gap during a reported outage is not its end.
    assert away("1 hour") == []
    with operator.app.app_context(), transaction():
        assert outages.reported() == ["http://gpu"]
        # Servers that are not configured any more are dropped.
        session = db.session
        session.execute(text("UPDATE model_server_outages SET seen_at = now() - interval '2 hour'"))
        outages.record({"http://other": True})
    [mail_text] = operator.news()
    assert "no longer configured" in mail_text


def test_a_ledger_that_does_not_add_up(operator: Operator) -> None:
    run(operator.app, ledger.verify)
    with operator.app.app_context(), transaction():
        user_id = factories.user(paid_tokens=1000).id
    for night in range(2):
        operator.execute(
            "UPDATE balances SET paid_tokens = 7, trial_tokens = :more WHERE user_id = :user_id",
            more=night,
            user_id=user_id,
        )
        assert operator.news() == []
        operator.execute("UPDATE ledger_verifications SET started_at = started_at - interval '1 d'")
        run(operator.app, ledger.verify)
        [mail_text] = operator.news()
        assert ("The ledger has a difference", "The ledger has 2 differences")[night] in mail_text
        assert links(mail_text) == [""] and "ledger verification found" in operator.page("")
    assert operator.news() == []


def test_a_large_database(employ: Employ) -> None:
    operator = employ(database_size_warn_bytes=1_000_000)
    [mail_text] = operator.news()
    assert "The database is larger than 1.0 MiB" in mail_text
    assert links(mail_text) == [""] and "over DATABASE_SIZE_WARN_BYTES" in operator.page("")
    assert operator.news() == []
    for size in (0, 10**12):
        other = employ(database_size_warn_bytes=size)
        assert other.news() == [] and "DATABASE_SIZE_WARN_BYTES" not in other.page("")


def test_a_late_backup(operator: Operator) -> None:
    # Backups made in another way are not known.
    assert operator.news() == [] and "backup" not in operator.page("")
    change = "UPDATE sweep_states SET last_run_at = now() - make_interval(hours => :age)"
    operator.execute("INSERT INTO sweep_states (name, last_run_at) VALUES ('backup', now())")
    for _ in range(2):
        operator.execute(f"{change} WHERE name = 'backup'", age=25)
        assert operator.news() == [] and "No backup" not in operator.page("")
        operator.execute(f"{change} WHERE name = 'backup'", age=27)
        [mail_text] = operator.news()
        assert "The newest backup is more than 26 hours old" in mail_text
        assert links(mail_text) == [""]
        [made_on] = re.findall(r"made on (.*) UTC", mail_text)
        assert f"No backup has been made since {made_on} UTC" in operator.page("")
        assert operator.news() == []


def test_many_things_are_collected(operator: Operator) -> None:
    park(operator, 1000)
    [mail_text] = operator.news()
    assert "1,000 webhook events have been parked" in mail_text and "and 980 more" in mail_text
    assert "promptly could not process them" in mail_text
    assert len(links(mail_text)) == 21
    mails = []
    for number in range(1000, 1006):
        park(operator, 1, number)
        mails += operator.news()
    assert len(mails) == alerts.MOST_AN_HOUR - 1
    operator.pass_time(minutes=61)
    [rest] = operator.news()
    assert "3 webhook events have been parked" in rest
    # Alerts that ended long ago are deleted.
    operator.execute("UPDATE webhook_events SET state = 'handled'")
    assert operator.news() == []
    operator.pass_time(days=alerts.RETENTION_DAYS, minutes=1)
    assert operator.news() == []
    with operator.app.app_context():
        assert db.session.scalar(text("SELECT count(*) FROM operator_alerts")) == 0


def test_a_crash_neither_loses_nor_repeats_a_mail(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    park(operator, 1)

    def die(*_arguments: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "enqueue", die)
        with pytest.raises(KeyboardInterrupt):
            run(operator.app, alert)
    assert len(operator.news()) == 1
    assert operator.news() == []


@pytest.mark.parametrize("missing", ["operator_email", "smtp_host"])
def test_nothing_is_recorded_until_it_can_be_mailed(employ: Employ, missing: str) -> None:
    before = employ(**{missing: ""})
    park(before, 3)
    run(before.app, probe)
    assert before.news() == []
    [mail_text] = employ().news()
    assert "3 webhook events" in mail_text
