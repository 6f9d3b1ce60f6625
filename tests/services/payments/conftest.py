"""One shop for all tests of the package; its providers and tables are emptied before each."""

from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import text

from promptly.app import create_app
from promptly.transactions import transaction
from sandbox.btcpay import SimulatedBTCPay
from sandbox.stripe import SimulatedStripe
from tests.conftest import dispose
from tests.support.databases import Databases
from tests.support.servers import WorkerRedis, make_settings
from tests.support.shop import Shop, Site, configuration

TABLES = (
    "payment_reversals, payment_cases, webhook_events, orders, payment_reconciliations, outbox,"
    "imported_accounts, sweep_states, installations"
)


@pytest.fixture(scope="package")
def _shop(
    databases: Databases,
    template_database: str,
    redis_server: WorkerRedis,
    stripe_server: SimulatedStripe,
    btcpay_server: SimulatedBTCPay,
) -> Iterator[Shop]:
    with databases.temporary(template_database) as url:
        settings = make_settings(
            database_url=url,
            redis_url=redis_server.url,
            **configuration(stripe_server, btcpay_server),
        )
        app = create_app(settings)
        site = Site(app)
        yield Shop(app, site.url, stripe_server, btcpay_server)
        site.stop()
        dispose(app)


@pytest.fixture
def shop(_shop: Shop, redis_server: WorkerRedis) -> Iterator[Shop]:
    """The shop, with both providers answering and delivering; its books must balance at the end."""
    _shop.open()
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
    with _shop.app.app_context(), transaction() as session:
        session.execute(text(f"TRUNCATE {TABLES}"))
        session.execute(text("DELETE FROM users"))
        session.execute(text("DELETE FROM usage_events"))
    yield _shop
    assert _shop.differences() == []
