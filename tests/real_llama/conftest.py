"""Fixtures for the gateway in front of a real llama-server with two slots."""

from collections.abc import Iterator

import pytest

from sandbox.real_llama import RealLlama
from tests.blueprints.v1.client import Client
from tests.real_llama.gateways import API_KEY, running_gateway
from tests.support.books import Account, BooksReader
from tests.support.databases import Databases
from tests.support.servers import Gateway, WorkerRedis


@pytest.fixture(scope="package")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLlama]:
    server = RealLlama(tmp_path_factory.mktemp("real"), slots=2, ctx=4096, api_key=API_KEY)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def database(databases: Databases, template_database: str) -> Iterator[str]:
    name = databases.create(template_database)
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture(scope="package")
def books(database: str, redis_server: WorkerRedis) -> Iterator[BooksReader]:
    found = BooksReader(database, redis_server.url)
    yield found
    found.close()


@pytest.fixture(scope="package")
def gateway(
    database: str,
    redis_server: WorkerRedis,
    llama: RealLlama,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory, database, redis_server, llama) as running:
        yield running


@pytest.fixture
def account(books: BooksReader) -> Account:
    """An account with an ample balance (1,000,000 paid tokens)."""
    return books.account()


@pytest.fixture
def client(gateway: Gateway, account: Account) -> Client:
    return Client(gateway.url, account.key)
