"""Fixtures for gateways behind real nginx proxies."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.proxies.nginx import Certificate, Nginx
from tests.support.books import BooksReader
from tests.support.databases import Databases
from tests.support.servers import Gateway, WorkerRedis

ADMIN_KEY = "the-admin-key-of-these-tests-0123456789"

MakeGateway = Callable[..., Gateway]
MakeProxy = Callable[..., Nginx]


@pytest.fixture(scope="module")
def database(databases: Databases, template_database: str) -> Iterator[str]:
    name = databases.create(template_database)
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture(scope="module")
def books(database: str, redis_server: WorkerRedis) -> Iterator[BooksReader]:
    found = BooksReader(database, redis_server.url)
    yield found
    found.close()


@pytest.fixture(scope="module")
def make_gateway(
    database: str, redis_server: WorkerRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeGateway]:
    """Factory for started gateways; ADMIN_KEY is set unless overridden."""
    made: list[Gateway] = []

    def make(**variables: Any) -> Gateway:
        gateway = Gateway(
            tmp_path_factory.mktemp("gateway"),
            database_url=database,
            redis_url=redis_server.url,
            llama_urls=["http://127.0.0.1:1"],
            **{"ADMIN_KEY": ADMIN_KEY, "LOG_LEVEL": "debug", **variables},
        )
        made.append(gateway)
        return gateway.start()

    yield make
    for gateway in made:
        gateway.kill()


@pytest.fixture(scope="module")
def make_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeProxy]:
    """Factory for started proxies in front of an upstream port."""
    made: list[Nginx] = []

    def make(upstream_port: int, **options: Any) -> Nginx:
        folder = tmp_path_factory.mktemp("nginx") / "proxy"
        made.append(Nginx(folder, upstream_port, **options))
        return made[-1]

    yield make
    for proxy in made:
        proxy.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))
