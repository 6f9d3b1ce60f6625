"""A gateway in front of a simulated llama-server, for the examples in the documents."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from promptly.errors import InvalidRequest
from promptly.services.accounts import accounts
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.support.books import Account, BooksReader
from tests.support.databases import Databases
from tests.support.servers import Gateway, WorkerRedis

ADMIN_KEY = "the-documents-own-admin-key-0123456789"


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
    database: str, redis_server: WorkerRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("documented")
    llama = SimulatedLlama(folder / "llama", embeddings=True).start()
    gateway = Gateway(
        folder / "gateway",
        database_url=database,
        redis_url=redis_server.url,
        llama_urls=[llama.url],
        ADMIN_KEY=ADMIN_KEY,
    ).start()
    yield gateway
    gateway.kill()
    llama.stop()


@pytest.fixture
def account(books: BooksReader) -> Account:
    """An account with ample funds; also creates the one that operators' examples modify."""
    settings = books.app.extensions["settings"]
    with books.app.app_context(), suppress(InvalidRequest), transaction():
        accounts.create("user@example.com", settings)
    return books.account()
