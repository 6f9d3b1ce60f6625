"""One shop for the tests of purchases and webhooks, cleared before each test."""

from collections.abc import Iterator

import pytest
import redis
from flask import Flask
from sqlalchemy import text

from promptly.app import create_app
from promptly.transactions import transaction
from tests.conftest import dispose
from tests.support.databases import Databases
from tests.support.servers import WorkerRedis, make_settings
from tests.support.signing import CONFIGURED


@pytest.fixture(scope="package")
def shop_database(databases: Databases, template_database: str) -> Iterator[str]:
    with databases.temporary(template_database) as url:
        yield url


@pytest.fixture(scope="package")
def _shop(shop_database: str, redis_server: WorkerRedis) -> Iterator[Flask]:
    settings = make_settings(database_url=shop_database, redis_url=redis_server.url, **CONFIGURED)
    app = create_app(settings)
    yield app
    dispose(app)


@pytest.fixture
def shop(_shop: Flask, redis_server: WorkerRedis) -> Flask:
    """An application with both providers configured, an empty inbox and an empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
    with _shop.app_context(), transaction() as session:
        session.execute(text("DELETE FROM webhook_events"))
    return _shop
