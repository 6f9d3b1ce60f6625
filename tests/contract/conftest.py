"""A dedicated gateway in front of a simulated llama-server with short answers."""

import json
from collections.abc import Iterator

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client
from tests.contract.contract import Contract
from tests.support.books import Account, BooksReader
from tests.support.databases import Databases
from tests.support.servers import Gateway, WorkerRedis


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the operation to each generated test's id; xdist would take equal ids for one test."""
    for item in items:
        label = getattr(item, "operation_label", None)
        if label and item.parent is not None:
            item._id = item.parent.id.child(f"{item.name}[{label}]")


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
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedLlama]:
    directory = tmp_path_factory.mktemp("llama")
    server = SimulatedLlama(directory, answer_tokens=4, ctx=262_144, embeddings=True).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(
    database: str,
    redis_server: WorkerRedis,
    llama: SimulatedLlama,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    running = Gateway(
        tmp_path_factory.mktemp("gateway"),
        database_url=database,
        redis_url=redis_server.url,
        llama_urls=[llama.url],
        INFERENCE_IP_RATE_LIMIT=10_000_000,
        INFERENCE_USER_RATE_LIMIT=10_000_000,
    ).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def account(books: BooksReader) -> Account:
    """An account with a balance that no test can exhaust."""
    return books.account(paid_tokens=10**15)


@pytest.fixture(scope="module")
def client(gateway: Gateway, account: Account) -> Client:
    return Client(gateway.url, account.key)


@pytest.fixture(scope="module")
def contract(client: Client) -> Contract:
    """The document as the gateway serves it."""
    return Contract(json.loads(client.get("/openapi.json").body))
