"""GET /metrics in one process: who may read it, money's health, and stores that are away."""

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from promptly.clock import utcnow
from promptly.models import (
    DailyTotal,
    LedgerVerification,
    PaymentCase,
    PaymentReversal,
    SweepState,
    WebhookEvent,
)
from promptly.models.states import MailState
from promptly.runtime import presence
from promptly.secret import Secret
from promptly.services import drains, money_health
from promptly.services.audit import Operator
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support import factories

Samples = dict[tuple[str, tuple[str, ...]], float]
QUEUES = ("default", "mail", "metering", "payments")


def scrape(client: FlaskClient) -> Samples:
    """Return all samples by name and label values."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    found: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.values()))
            assert key not in found, "Prometheus refuses duplicates"
            found[key] = sample.value
    return found


def plain(samples: Samples) -> dict[str, float]:
    """Return the samples without labels."""
    return {name: number for (name, labels), number in samples.items() if not labels}


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"REMOTE_ADDR": "127.0.0.1"}, 200),
        ({"REMOTE_ADDR": "::ffff:100.64.1.2"}, 200),
        ({"REMOTE_ADDR": "203.0.113.9"}, 403),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, 403),
    ],
)
def test_addresses(client: FlaskClient, environ: dict[str, Any], status: int) -> None:
    answer = client.get("/metrics", environ_base=environ)
    assert answer.status_code == status
    assert ("promptly_" in answer.text) == (status == 200)


def test_behind_a_proxy(app_factory: AppFactory) -> None:
    client = app_factory(trusted_proxy_hops=1).test_client()
    assert client.get("/metrics").status_code == 403
    for address, status in (("100.64.0.9", 200), ("203.0.113.9", 403)):
        answer = client.get("/metrics", headers={"X-Forwarded-For": address})
        assert answer.status_code == status


KEY = "a key that lets Prometheus read metrics"


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer {KEY} ", 200),
        ("", 403),
        ("Bearer ", 403),
        (f"Bearer {KEY}x", 403),
        (f"Bearer {KEY[:-1]}", 403),
        (f"Basic {KEY}", 403),
        (KEY, 403),
        ("Bearer \u00fc", 403),
    ],
)
def test_a_key_opens_them_to_every_address(
    app_factory: AppFactory, authorization: str, status: int
) -> None:
    """In front of which any number of proxies may be, or none although some are configured."""
    client = app_factory(trusted_proxy_hops=1, metrics_key=Secret(KEY)).test_client()
    environ = {"REMOTE_ADDR": "203.0.113.9", "HTTP_AUTHORIZATION": authorization}
    assert client.get("/metrics", environ_base=environ).status_code == status
    environ["HTTP_X_FORWARDED_FOR"] = "198.51.100.7, 203.0.113.9"
    assert client.get("/metrics", environ_base=environ).status_code == status


def test_no_key_is_set(client: FlaskClient) -> None:
    for key in ("", " ", KEY):
        environ = {"REMOTE_ADDR": "203.0.113.9", "HTTP_AUTHORIZATION": f"Bearer {key}"}
        assert client.get("/metrics", environ_base=environ).status_code == 403


def test_a_foreign_host_name(client: FlaskClient) -> None:
    assert client.get("/metrics", headers={"Host": "evil.example.com"}).status_code == 400


def test_openmetrics(client: FlaskClient) -> None:
    accepted = {"Accept": "application/openmetrics-text;version=1.0.0"}
    answer = client.get("/metrics", headers=accepted)
    assert answer.content_type.startswith("application/openmetrics-text")
    assert "# TYPE promptly_tokens counter\n" in answer.text
    assert answer.text.endswith("# EOF\n")


@pytest.fixture
def books(app: Flask) -> None:
    """An hour's work: a hold, mails, events, orders, a case and a verification."""
    now = utcnow()
    with app.app_context(), transaction() as session:
        user = factories.user(paid_tokens=1000)
        factories.hold(user.id, held_paid=10).created_at = now - timedelta(minutes=5)
        factories.hold(user.id, held_paid=10)
        factories.mail().created_at = now - timedelta(minutes=7)
        factories.mail().state = MailState.FAILED
        order = factories.order(user.id, state="open")
        factories.order(user.id, state="paid")
        session.add(
            PaymentCase(
                order_id=order.id, provider="stripe", checkout_id="c", kind="amount", detail="d"
            )
        )
        for state in ("offered", "claimed", "succeeded"):
            session.add(
                PaymentReversal(
                    order_id=order.id, kind="refund", provider="btcpay", amount_minor=1,
                    state=state, active=True, actor="cli:ada",
                )
            )  # fmt: skip
        for number, state in enumerate(("pending", "parked", "parked")):
            session.add(
                WebhookEvent(provider="stripe", event_id=f"e{number}", type="t", state=state)
            )
        for days in (0, 1):
            session.add(DailyTotal(day=now.date() - timedelta(days=days), uncharged_tokens=21))
        for differences, hours in ((4, 30), (2, 6)):
            at = now - timedelta(hours=hours)
            session.add(LedgerVerification(started_at=at, finished_at=at, differences=differences))
        session.add(SweepState(name="backup", last_run_at=now - timedelta(hours=3)))


@pytest.mark.usefixtures("books")
def test_money_health(client: FlaskClient) -> None:
    samples = scrape(client)
    found = plain(samples)
    assert found["promptly_postgres_up"] == 1
    assert found["promptly_holds_open"] == 2
    assert 300 <= found["promptly_holds_oldest_age_seconds"] < 420
    assert found["promptly_uncharged_tokens"] == 42
    assert found["promptly_ledger_differences"] == 2
    age = utcnow().timestamp() - found["promptly_ledger_verified_timestamp_seconds"]
    assert 6 * 3600 <= age < 7 * 3600
    age = utcnow().timestamp() - found["promptly_backup_timestamp_seconds"]
    assert 3 * 3600 <= age < 4 * 3600
    assert found["promptly_outbox_waiting"] == 1
    assert 420 <= found["promptly_outbox_oldest_age_seconds"] < 540
    assert found["promptly_outbox_failed"] == 1
    assert found["promptly_cases_open"] == 1
    assert found["promptly_refunds_unpaid"] == 2
    assert found["promptly_database_size_bytes"] > 1_000_000
    states = {key: number for key, number in samples.items() if key[0] == "promptly_orders"}
    assert states.pop(("promptly_orders", ("open",))) == 1
    assert states.pop(("promptly_orders", ("paid",))) == 1
    assert len(states) == 10 and set(states.values()) == {0}
    events = {key[1]: number for key, number in samples.items() if "webhook_events" in key[0]}
    assert events == {("pending",): 1, ("handled",): 0, ("ignored",): 0, ("parked",): 2}


def test_an_empty_installation(client: FlaskClient) -> None:
    found = plain(scrape(client))
    assert found["promptly_holds_oldest_age_seconds"] == 0
    # Nothing was verified yet, and no backup made.
    assert "promptly_ledger_differences" not in found
    assert "promptly_backup_timestamp_seconds" not in found


@pytest.mark.parametrize(("setting", "exported"), [(5 * 10**10, [5e10]), (0, [])])
def test_the_threshold_of_the_database(
    app_factory: AppFactory, setting: int, exported: list[float]
) -> None:
    found = scrape(app_factory(database_size_warn_bytes=setting).test_client())
    assert [
        found[key] for key in found if key[0] == "promptly_database_size_warn_bytes"
    ] == exported


def test_figures_are_kept(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain(scrape(client))["promptly_holds_open"] == 0
    with app.app_context(), transaction():
        factories.hold(factories.user(paid_tokens=10).id, held_paid=1)
    assert plain(scrape(client))["promptly_holds_open"] == 0
    monkeypatch.setattr(money_health, "KEPT_SECONDS", 0)
    assert plain(scrape(client))["promptly_holds_open"] == 1


def test_a_statement_that_takes_too_long(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(money_health, "_STATES", "SELECT 'promptly_orders', 'open', pg_sleep(60)")
    monkeypatch.setattr(money_health, "STATEMENT_SECONDS", 1)
    samples = scrape(client)
    # It leaves its own figures out; PostgreSQL itself is not away.
    assert plain(samples)["promptly_postgres_up"] == 1
    assert plain(samples)["promptly_holds_open"] == 0
    assert not [key for key in samples if key[0] == "promptly_orders"]


def test_without_postgresql(app_factory: AppFactory) -> None:
    client = app_factory(database_url="postgresql://nobody@127.0.0.1:1/none").test_client()
    found = plain(scrape(client))
    assert found["promptly_postgres_up"] == 0
    assert found["promptly_redis_up"] == 1
    assert "promptly_holds_open" not in found


def test_without_redis(app_factory: AppFactory) -> None:
    found = plain(scrape(app_factory(redis_url="redis://127.0.0.1:1/0").test_client()))
    assert (found["promptly_redis_up"], found["promptly_postgres_up"]) == (0, 1)
    assert "promptly_queue_length" not in found
    assert "promptly_beat_seen_age_seconds" not in found


def test_worker_beat_and_their_queues(app: Flask, client: FlaskClient, redis_url: str) -> None:
    samples = scrape(client)
    assert samples["promptly_beat_seen_age_seconds", ()] == float("inf")
    assert {samples["promptly_worker_seen_age_seconds", (name,)] for name in QUEUES} == {
        float("inf")
    }
    presence.report(redis_url, [presence.BEAT, presence.worker("mail")])
    app.extensions["hot_path_redis"].command("RPUSH", "payments", "a", "b")
    samples = scrape(client)
    assert samples["promptly_beat_seen_age_seconds", ()] < 60
    assert samples["promptly_worker_seen_age_seconds", ("mail",)] < 60
    assert samples["promptly_worker_seen_age_seconds", ("default",)] == float("inf")
    assert samples["promptly_celery_queue_length", ("payments",)] == 2
    assert samples["promptly_celery_queue_length", ("mail",)] == 0


def test_a_server_for_text_and_embeddings_has_one_line(app_factory: AppFactory) -> None:
    urls = ("http://127.0.0.1:1",)
    client = app_factory(llama_base_url=urls, llama_embeddings_base_url=urls).test_client()
    assert scrape(client)["promptly_upstream_up", ("http://127.0.0.1:1",)] == 0


def test_a_drained_server_is_marked(app_factory: AppFactory) -> None:
    urls = ("http://127.0.0.1:1", "http://127.0.0.1:2")
    app = app_factory(llama_base_url=urls)
    with app.app_context(), transaction():
        drains.drain(urls[0], Operator("cli:ada"))
    samples = scrape(app.test_client())
    assert [samples["promptly_upstream_drained", (url,)] for url in urls] == [1, 0]
