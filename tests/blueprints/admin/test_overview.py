"""The overview page: figures of the roll-up, running requests, pending work."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import text

from promptly.blueprints.admin.overview_charts import GROUPS
from promptly.gateway.slots.scheduler import SlotScheduler
from promptly.labels import OUTCOMES
from promptly.models import PaymentCase
from promptly.models.states import MailState, Outcome
from promptly.secret import Secret
from promptly.services import audit
from promptly.services.ledger import ledger, verification
from promptly.services.usage import rollups, statistics
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.blueprints.admin.conftest import ADMIN_KEY
from tests.blueprints.admin.panel import XSS, Panel
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.books import wait_for
from tests.support.factories import order as make_order


def roll_up(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        statistics.refresh(rollups.roll_up())
        session.execute(
            text("INSERT INTO sweep_states (name, last_run_at) VALUES ('holds', now())")
        )


def test_every_outcome_has_words() -> None:
    assert set(OUTCOMES) == set(Outcome)
    assert {name for _, _, outcomes in GROUPS for name in outcomes} <= set(OUTCOMES)


def test_a_new_service(pages: Panel) -> None:
    words = pages.words("/admin")
    assert "Nothing: no open payment cases" in words
    assert "Totals have not been computed yet" in words
    assert "The Celery worker or beat is not running" in words
    assert "No mail server is configured" in words and "No payment provider is configured" in words
    assert "http://127.0.0.1:1 unavailable" in words
    # Without figures there are no tables.
    assert "Daily figures" not in words and "Outcome of requests" not in words


def test_the_first_roll_up_is_late_only_once_it_is_due(pages: Panel) -> None:
    sentence = "the roll-up is not running"
    with pages.app.app_context(), transaction() as session:
        session.execute(
            text("INSERT INTO sweep_states (name, last_run_at) VALUES ('holds', now())")
        )
    assert sentence not in pages.words("/admin")
    for minutes, is_late in ((14, False), (16, True)):
        with pages.app.app_context(), transaction():
            factories.user().created_at = datetime.now(UTC) - timedelta(minutes=minutes)
        assert (sentence in pages.words("/admin")) is is_late


def test_figures_are_the_roll_ups(pages: Panel) -> None:
    with pages.app.app_context(), transaction():
        user = factories.user(paid_tokens=10_000)
        factories.user(trial_tokens=500)
        factories.hold(user.id, held_paid=70)
        for outcome in ("completed", "completed", "upstream_error", "a_new_one"):
            event = factories.usage_event(
                user.id,
                outcome=outcome,
                prompt_tokens=1000,
                cached_prompt_tokens=700,
                completion_tokens=234,
            )
            event.duration_ms = 43_200_000
        sold = make_order(user.id, provider="btcpay", state="paid")
        tried = make_order(user.id, state="paid")
        for order in (sold, tried):
            order.credited_at = datetime.now(UTC)
        sold.reversed_minor = 50
    roll_up(pages.app)
    words = pages.words("/admin")
    assert "Accounts 2 2 new in 30 days Active 1 in 30 days Unspent tokens 10,500" in words
    assert "Reserved 70 by 1 open hold" in words
    assert "Requests 4 in 30 days" in words and "Tokens 4,936 in 30 days" in words
    assert "2,800 cached prompt, 1,200 new prompt, 936 completion" in words
    assert "Revenue in USD $1.50 in 30 days" in words
    assert "Test mode, USD $2.00 in 30 days: no real money" in words
    assert "Sign-ups 2 in 30 days" in words
    # Four requests of half a day each.
    assert f"{datetime.now(UTC):%Y-%m-%d}: 2 concurrent requests" in words
    # An unknown outcome counts as a failure and appears under its own name.
    assert "Outcomes 50.00% failed" in words
    assert "completed 2 50.00 %" in words and "model server failed 1 25.00 %" in words
    assert "a new one 1 25.00 %" in words
    assert "worker" not in words.partition("Needs attention")[0]


def test_every_chart_draws_every_day(pages: Panel) -> None:
    page = pages.page("/admin")
    charts = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(charts) == 7
    assert all(chart.count("<title>") == 30 for chart in charts)


def test_pending_work_is_named_and_linked(pages: Panel) -> None:
    with pages.app.app_context(), transaction() as session:
        user = factories.user(paid_tokens=1000)
        order = make_order(user.id, state="refunded")
        order.credited_at, order.tokens_owed = order.created_at, 7
        session.add(PaymentCase(provider="stripe", checkout_id="x", kind="amount", detail="d"))
        factories.mail().state = MailState.FAILED
        factories.mail().created_at = datetime.now(UTC) - timedelta(hours=1)
        factories.mail()
        hold = factories.hold(user.id, held_paid=10)
        hold.checkpoint_at = datetime.now(UTC) - timedelta(minutes=5)
        session.execute(
            text("INSERT INTO webhook_events (provider, event_id, type, state)"
                 " VALUES ('stripe', 'e', 't', 'parked')")
        )  # fmt: skip
    words = pages.words("/admin")
    for sentence in (
        "1 payment case needs a decision", "1 webhook event parked", "1 email failed permanently",
        "1 email pending for more than ten minutes", "7 tokens owed", "1 hold of processes",
    ):  # fmt: skip
        assert sentence in words, sentence
    page = pages.page("/admin")
    for path in ("/admin/cases", "/admin/webhooks?state=parked", "/admin/outbox?state=failed",
                 "/admin/purchases?owed=1", "/admin/holds"):  # fmt: skip
        assert f'href="{path}"' in page
        pages.page(path)


def test_the_result_of_the_last_verification(pages: Panel) -> None:
    assert "Not verified yet" in pages.words("/admin")
    for differences, sentence in ((2, "found 2 differences"), (0, "matches its entries")):
        with pages.app.app_context(), transaction():
            verification.record(differences)
        page = pages.words("/admin")
        assert sentence in page and ("ledger verification found" in page) is bool(differences)


@pytest.fixture
def llama() -> Iterator[SimulatedLlama]:
    server = SimulatedLlama().start()
    yield server
    server.stop()


def test_upstreams_slots_and_the_line(app_factory: AppFactory, llama: SimulatedLlama) -> None:
    app = app_factory(admin_key=Secret(ADMIN_KEY), llama_base_url=(llama.url,))
    client = app.test_client()
    client.post("/admin/session", data={"key": ADMIN_KEY})
    pages = Panel(app, client)
    slots: SlotScheduler = app.extensions["gateway"].slots
    assert "ready" in pages.words("/admin")
    [upstream] = app.extensions["gateway"].pool.upstreams
    tickets = [slots.request(1) for _ in range(upstream.slots + 2)]
    wait_for(lambda: slots.occupancy().waiting == 2, "two requests wait")
    words = pages.words("/admin")
    assert f"{upstream.slots} of {upstream.slots}" in words
    assert "2 requests waiting for a slot" in words and upstream.model in words
    for ticket in tickets:
        slots.release(ticket)
    wait_for(lambda: slots.occupancy().waiting == 0, "nobody waits")
    wait_for(lambda: slots.occupancy().taken[upstream.name] == 0, "no slot is taken")


def test_redis_away(app_factory: AppFactory) -> None:
    app = app_factory(admin_key=Secret(ADMIN_KEY), redis_url="redis://127.0.0.1:1/0")
    client = app.test_client()
    client.post("/admin/session", data={"key": ADMIN_KEY})
    words = Panel(app, client).words("/admin")
    assert "Redis is unavailable" in words and "? of 0" in words


def test_names_of_models_are_text(pages: Panel) -> None:
    [upstream] = pages.app.extensions["gateway"].pool.upstreams
    upstream.model = XSS
    assert "<script>alert(1)" in pages.words("/admin")


def test_the_audit_log_leads_to_what_was_done(pages: Panel) -> None:
    with pages.app.app_context(), transaction():
        user = factories.user()
        for action, subject in (
            ("payment.refund", "P-2345-6789-ABCD"), ("payment.resolve", "7"), ("mail.cancel", "8"),
            ("webhook.replay", "9"), ("mail.resend", XSS), ("payment.check", XSS),
            ("balance.adjust", "10"), ("payment.reconcile", None),
        ):  # fmt: skip
            audit.record(action, actor="panel", user_id=user.id, subject=subject)
        ledger.adjust(user.id, 5, actor="x", kind="purchase", reference="P-2345-6789-ABCD")
    page = pages.page("/admin/audit")
    for path in ("purchases/P-2345-6789-ABCD", "cases/7", "outbox/8", "webhooks/9"):
        assert f'href="/admin/{path}"' in page, path
    assert 'href="/admin/purchases/P-2345-6789-ABCD"' in pages.page("/admin/users/1/ledger")
