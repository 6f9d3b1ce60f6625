"""Fixtures for all tests: real PostgreSQL and Redis, and no other network access.

app_context, session       the xdist worker's database, inside a transaction that is rolled back
fresh_database             a database for this test only, for commits, threads and processes
app_factory, app, client   applications on the fresh database
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import kombu.pools
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from promptly.app import create_app
from promptly.extensions import db, limiter
from promptly.runtime.celery_app import celery
from promptly.settings import Settings
from sandbox.btcpay import SimulatedBTCPay
from sandbox.mail import MailCatcher
from sandbox.stripe import SimulatedStripe
from tests.support.databases import Databases, FreshDatabase
from tests.support.servers import Servers, WorkerRedis, make_settings

pytest_plugins = ["tests.plugins.stacks", "tests.plugins.tools"]

SettingsFactory = Callable[..., Settings]
AppFactory = Callable[..., Flask]

_servers: Servers | None = None

# No deadline per example: timings mean nothing on a busy machine, and each test has its timeout.
hypothesis.settings.register_profile("promptly", deadline=None)
hypothesis.settings.load_profile("promptly")

# Tests connect only to these hosts and those of DATABASE_URL and REDIS_URL, never to another server
# that a developer's shell or .env names.
_LOCAL_HOSTS = {"127.0.0.1", "::1", "localhost"}
# Of network namespaces (tests/support/machines.py): addresses for benchmarks, which nobody has.
_NAMESPACES = "198.18."


def _refuse_other_hosts(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if not isinstance(address, tuple) or address[0] in _LOCAL_HOSTS:
        return
    if not address[0].startswith(_NAMESPACES):
        raise RuntimeError(f"tests do not speak to the network: {address[0]}")


def pytest_configure(config: pytest.Config) -> None:
    # Every server runs on this machine, which an outbound HTTP proxy cannot reach.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    for name in ("DATABASE_URL", "REDIS_URL"):
        host = urlsplit(os.environ.get(name, "")).hostname
        if host:
            # Clients connect to the name, or to the addresses behind it.
            addresses = {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
            _LOCAL_HOSTS.update({host, *addresses})
    sys.addaudithook(_refuse_other_hosts)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first: a file stays in one worker, and must not be started last."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Start the servers once, in the xdist controller, and pass their addresses to the workers."""
    servers = _start_servers()
    node.workerinput["server_url"] = servers.databases.server_url
    node.workerinput["template"] = servers.template


def pytest_unconfigure(config: pytest.Config) -> None:
    global _servers
    if _servers is not None:
        _servers.stop()
        _servers = None


def _start_servers() -> Servers:
    global _servers
    if _servers is None:
        _servers = Servers()
    return _servers


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Databases:
    """The PostgreSQL server of this test run."""
    given = getattr(request.config, "workerinput", None)
    return Databases(given["server_url"]) if given else _start_servers().databases


@pytest.fixture(scope="session")
def template_database(request: pytest.FixtureRequest, databases: Databases) -> str:
    """Name of the migrated database from which all others are copied."""
    given = getattr(request.config, "workerinput", None)
    return str(given["template"]) if given else _start_servers().template


@pytest.fixture(scope="session")
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerRedis]:
    given = getattr(request.config, "workerinput", None)
    number = int(given["workerid"].removeprefix("gw")) if given else 0
    server = WorkerRedis(number, tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: WorkerRedis) -> str:
    """URL of the worker's Redis, emptied."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
    return redis_server.url


@pytest.fixture(scope="session")
def worker_app(
    databases: Databases, template_database: str, redis_server: WorkerRedis
) -> Iterator[Flask]:
    with databases.temporary(template_database) as url:
        app = create_app(make_settings(database_url=url, redis_url=redis_server.url))
        yield app
        dispose(app)


@pytest.fixture
def app_context(worker_app: Flask) -> Iterator[Flask]:
    """An application context whose database changes, commits included, are rolled back."""
    with worker_app.app_context():
        engine = db.engines[None]
        connection = engine.connect()
        outer = connection.begin()
        engines: Any = db.engines
        engines[None] = connection
        db.session.remove()
        db.session.configure(join_transaction_mode="create_savepoint")
        try:
            yield worker_app
        finally:
            db.session.remove()
            db.session.configure(join_transaction_mode="conditional_savepoint")
            engines[None] = engine
            outer.rollback()
            connection.close()


@pytest.fixture
def session(app_context: Flask) -> Session:
    """The session of `app_context`."""
    return db.session()


@pytest.fixture(scope="session")
def _fresh_database(databases: Databases, template_database: str) -> Iterator[FreshDatabase]:
    found = FreshDatabase(databases, template_database)
    yield found
    found.drop()


@pytest.fixture
def fresh_database(databases: Databases, _fresh_database: FreshDatabase) -> Iterator[str]:
    """URL of a migrated, empty database that no other test uses."""
    yield databases.url(_fresh_database.take())
    _fresh_database.give_back()


@pytest.fixture
def settings(fresh_database: str, redis_url: str) -> SettingsFactory:
    """Factory for settings on the fresh database; overrides are fields by name."""

    def build(**values: object) -> Settings:
        return make_settings(**{"database_url": fresh_database, "redis_url": redis_url, **values})

    return build


@pytest.fixture
def app_factory(settings: SettingsFactory) -> Iterator[AppFactory]:
    """Factory for applications on the fresh database."""
    made: list[Flask] = []

    def build(**values: object) -> Flask:
        app = create_app(settings(**values))
        made.append(app)
        return app

    yield build
    for app in made:
        dispose(app)


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    """An application on the fresh database."""
    return app_factory()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="session")
def _mail_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailCatcher]:
    server = MailCatcher(tmp_path_factory.mktemp("mail")).start()
    yield server
    server.stop()


@pytest.fixture
def mail_catcher(_mail_server: MailCatcher) -> MailCatcher:
    """An empty mail server; set `smtp_host` and `smtp_port` to its host and port."""
    _mail_server.clear()
    return _mail_server


@pytest.fixture
def mail_app(app_factory: AppFactory, mail_catcher: MailCatcher) -> Flask:
    """An application on the fresh database that mails through `mail_catcher`."""
    return app_factory(smtp_host=mail_catcher.host, smtp_port=mail_catcher.port)


@pytest.fixture(scope="session")
def stripe_server() -> Iterator[SimulatedStripe]:
    """The simulated Stripe of this test run; users reset it and set its webhook endpoint."""
    server = SimulatedStripe(retry_seconds=(0.05, 0.1)).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def btcpay_server() -> Iterator[SimulatedBTCPay]:
    """The simulated BTCPay Server of this test run; users reset it and set its webhook."""
    server = SimulatedBTCPay(retry_seconds=(0.05, 0.1)).start()
    yield server
    server.stop()


@pytest.fixture
def project() -> Path:
    """The repository root."""
    return Path(__file__).parent.parent


def dispose(app: Flask) -> None:
    """Close an application's connections and reset the process-wide state bound to it."""
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()
    app.extensions["hot_path_database"].dispose()
    app.extensions["hot_path_redis"].client.close()
    # All applications of a process share one limiter; the next application's Redis is reachable.
    limiter._storage_dead = False
    # The next application may use another broker; Celery's cached connections belong to this one.
    kombu.pools.reset()
    celery._after_fork()  # type: ignore[attr-defined]  # private, so not in the stubs
