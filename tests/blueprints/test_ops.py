"""/health and /health/ready: the lines of the Celery worker and beat."""

from contextlib import ExitStack

from flask import Flask
from flask.testing import FlaskClient

from promptly.extensions import db
from promptly.runtime import presence
from promptly.runtime.database import PAGE_POOL_SIZE
from tests.conftest import AppFactory

POOLS = ("postgresql", "postgresql pages", "postgresql webhooks", "postgresql api")
QUEUES = ("default", "mail", "metering", "payments")


def lines(client: FlaskClient) -> dict[str, str]:
    answer = client.get("/health/ready")
    assert answer.status_code == 503, "no model server runs here"
    return dict(line.split(": ", 1) for line in answer.text.splitlines())


def test_healthy(client: FlaskClient) -> None:
    assert client.get("/health").json == {"status": "ok"}


def test_worker_and_beat(app: Flask, redis_url: str) -> None:
    client = app.test_client()
    found = lines(client)
    assert list(found) == [*POOLS, "redis", "upstream", "worker", "beat"]
    assert {found[name] for name in POOLS} == {"ok"}
    assert found["worker"] == "not seen lately (queues: default, mail, metering, payments)"
    assert found["beat"] == "not seen lately"
    presence.report(redis_url, [presence.BEAT, *map(presence.worker, set(QUEUES) - {"mail"})])
    found = lines(client)
    assert found["worker"] == "not seen lately (queues: mail)"
    assert found["beat"].startswith("ok (seen ")
    presence.report(redis_url, [presence.worker("mail")])
    assert lines(client)["worker"].startswith("ok (seen ")


def test_nobody_is_seen_without_redis(app_factory: AppFactory) -> None:
    found = lines(app_factory(redis_url="redis://127.0.0.1:1/0").test_client())
    assert (found["redis"], found["worker"], found["beat"]) == ("away", "unknown", "unknown")


def test_an_exhausted_pool(app_factory: AppFactory) -> None:
    app = app_factory(database_timeout_seconds=1)
    client = app.test_client()
    with app.app_context(), ExitStack() as ends:
        for _ in range(PAGE_POOL_SIZE):
            ends.enter_context(db.engines[None].connect())
        found = lines(client)
        assert found.pop("postgresql pages") == "exhausted"
        assert {found[name] for name in POOLS if name in found} == {"ok"}
    assert lines(client)["postgresql pages"] == "ok"


def test_without_postgresql(app_factory: AppFactory) -> None:
    app = app_factory(database_url="postgresql://nobody@127.0.0.1:1/none")
    found = lines(app.test_client())
    assert {found[name] for name in POOLS} == {"away"}
