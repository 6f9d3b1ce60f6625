"""Popular clients, complete and unmodified, on a running gateway.

`backend` is one gateway in front of the simulator and one in front of a real llama-server with a
tiny model. Each test has its own account, whose charges are compared with upstream's counts at the
end. Each folder holds the tests of one client.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.llama import SimulatedLlama
from sandbox.real_llama import RealLlama
from tests.conformance.backends import Backend, RealUpstream, SimulatedUpstream
from tests.support.books import Account, BooksReader
from tests.support.databases import Databases
from tests.support.servers import Gateway, WorkerRedis

UPSTREAM_KEY = "upstream-key"


@pytest.fixture(scope="session")
def conformance_database(databases: Databases, template_database: str) -> Iterator[str]:
    name = databases.create(template_database)
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture(scope="session")
def conformance_books(
    conformance_database: str, redis_server: WorkerRedis
) -> Iterator[BooksReader]:
    found = BooksReader(conformance_database, redis_server.url)
    yield found
    found.close()


@pytest.fixture(scope="session")
def simulator_backend(
    conformance_database: str,
    conformance_books: BooksReader,
    redis_server: WorkerRedis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("simulator")
    server = SimulatedLlama(folder / "llama", embeddings=True).start()
    gateway = _gateway(folder, conformance_database, redis_server, server.url)
    yield Backend("simulator", gateway, conformance_books, SimulatedUpstream(server))
    gateway.kill()
    server.stop()


@pytest.fixture(scope="session")
def real_backend(
    conformance_database: str,
    conformance_books: BooksReader,
    redis_server: WorkerRedis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("real")
    server = RealLlama(folder / "llama", api_key=UPSTREAM_KEY)
    embedder = RealLlama(
        folder / "embedder",
        api_key=UPSTREAM_KEY,
        alias="embedder",
        # Without a unified KV cache a text's vector would depend on the rest of its batch.
        arguments=("--embeddings", "--pooling", "mean", "--kv-unified"),
    )
    server.start()
    embedder.start()
    gateway = _gateway(
        folder,
        conformance_database,
        redis_server,
        server.url,
        LLAMA_API_KEY=UPSTREAM_KEY,
        LLAMA_EMBEDDINGS_BASE_URL=embedder.url,
    )
    yield Backend("real", gateway, conformance_books, RealUpstream(server, embedder))
    gateway.kill()
    embedder.stop()
    server.stop()


def _gateway(
    folder: Path, database: str, redis: WorkerRedis, llama_url: str, **variables: Any
) -> Gateway:
    return Gateway(
        folder / "gateway",
        database_url=database,
        redis_url=redis.url,
        llama_urls=[llama_url],
        KEEPALIVE_COMMENT_SECONDS=1,
        MAX_CONCURRENT_REQUESTS=4,
        **variables,
    ).start()


# Session fixtures requested by name, instead of a session-scoped parameter: each backend starts
# only once, whatever the order of the tests.
@pytest.fixture(params=["simulator", pytest.param("real", marks=pytest.mark.real_llama)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """A gateway and its upstream."""
    found: Backend = request.getfixturevalue(f"{request.param}_backend")
    return found


@pytest.fixture
def account(backend: Backend) -> Iterator[Account]:
    """An account with ample funds; teardown compares its charges with upstream's counts."""
    backend.upstream.begin()
    found = backend.account()
    yield found
    backend.reckon(found)


@pytest.fixture
def simulator(backend: Backend, account: Account) -> SimulatedLlama:
    """The simulator, for injecting faults; only for tests marked `only_simulator`."""
    assert isinstance(backend.upstream, SimulatedUpstream)
    return backend.upstream.server
