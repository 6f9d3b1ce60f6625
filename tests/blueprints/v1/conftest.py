"""One gateway under gunicorn per session, in front of a simulated llama-server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client
from tests.support.books import Account, BooksReader
from tests.support.databases import Databases
from tests.support.servers import Gateway, WorkerRedis

MakeGateway = Callable[..., Gateway]
MakeLlama = Callable[..., SimulatedLlama]


@pytest.fixture(scope="session")
def v1_database(databases: Databases, template_database: str) -> Iterator[str]:
    name = databases.create(template_database)
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture(scope="session")
def books(v1_database: str, redis_server: WorkerRedis) -> Iterator[BooksReader]:
    found = BooksReader(v1_database, redis_server.url)
    yield found
    found.close()


@pytest.fixture(scope="session")
def running_llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(tmp_path_factory.mktemp("llama"), slots=4).start()
    yield server
    server.stop()


@pytest.fixture
def llama(running_llama: SimulatedLlama) -> SimulatedLlama:
    running_llama.clear()
    return running_llama


@pytest.fixture(scope="session")
def running_gateway(
    v1_database: str,
    redis_server: WorkerRedis,
    running_llama: SimulatedLlama,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("gateway"),
        database_url=v1_database,
        redis_url=redis_server.url,
        llama_urls=[running_llama.url],
        workers=2,
        KEEPALIVE_COMMENT_SECONDS=1,
        BODY_TIMEOUT_SECONDS=2,
    ).start()
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(running_gateway: Gateway, llama: SimulatedLlama) -> Gateway:
    """The shared gateway; the `llama` behind it is reset."""
    return running_gateway


@pytest.fixture
def make_gateway(v1_database: str, redis_url: str, tmp_path: Path) -> Iterator[MakeGateway]:
    """Factory of gateways for one test, on the shared database and an empty Redis."""
    made: list[Gateway] = []

    def make(*llama_urls: str, workers: int = 1, **variables: object) -> Gateway:
        gateway = Gateway(
            tmp_path / f"gateway{len(made)}",
            database_url=v1_database,
            redis_url=redis_url,
            llama_urls=list(llama_urls),
            workers=workers,
            **variables,
        )
        made.append(gateway)
        return gateway.start()

    yield make
    for gateway in made:
        gateway.kill()


@pytest.fixture(scope="session")
def growing_gateway(
    v1_database: str,
    redis_server: WorkerRedis,
    running_llama: SimulatedLlama,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    """A gateway whose holds grow in small steps."""
    gateway = Gateway(
        tmp_path_factory.mktemp("growing"),
        database_url=v1_database,
        redis_url=redis_server.url,
        llama_urls=[running_llama.url],
        HOLD_QUANTUM_TOKENS=16,
    ).start()
    yield gateway
    gateway.kill()


@pytest.fixture
def make_llama(tmp_path: Path) -> Iterator[MakeLlama]:
    """Factory of simulated llama-servers for one test."""
    made: list[SimulatedLlama] = []

    def make(**options: Any) -> SimulatedLlama:
        server = SimulatedLlama(tmp_path / f"llama{len(made)}", **options)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def account(books: BooksReader) -> Account:
    """An account with an ample balance."""
    return books.account()


@pytest.fixture
def client(gateway: Gateway, account: Account) -> Client:
    """A client of the shared gateway with the account's key."""
    return Client(gateway.url, account.key)
