"""pytest plugin: stacks for fixtures of any scope, and the gateways that several packages share.

The shared gateways start once per session, on one database. Their users create accounts of their
own and clear the simulator before they use it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from sandbox.llama import SimulatedLlama
from sandbox.real_llama import RealLlama
from tests.support.databases import Databases
from tests.support.servers import Gateway, WorkerRedis
from tests.support.stack import Stack

MakeStack = Callable[..., AbstractContextManager[Stack]]

ADMIN_KEY = "the-shared-gateways-admin-key-0123456789"
UPSTREAM_KEY = "upstream-key"


@pytest.fixture(scope="session")
def make_stack(
    databases: Databases,
    template_database: str,
    redis_server: WorkerRedis,
    tmp_path_factory: pytest.TempPathFactory,
) -> MakeStack:
    """Factory of stacks with a name and `Stack`'s variables, each on a database of its own."""

    @contextmanager
    def make(name: str, **variables: object) -> Iterator[Stack]:
        folder = tmp_path_factory.mktemp(name)
        with (
            databases.temporary(template_database) as url,
            Stack(folder, database_url=url, redis_url=redis_server.url, **variables) as stack,
        ):
            yield stack

    return make


@pytest.fixture(scope="session")
def shared_stack(make_stack: MakeStack) -> Iterator[Stack]:
    """The stack of the gateways below."""
    with make_stack("shared", KEEPALIVE_COMMENT_SECONDS=1) as stack:
        yield stack


@pytest.fixture(scope="session")
def simulated_llama(shared_stack: Stack) -> SimulatedLlama:
    return shared_stack.simulated_llama(embeddings=True)


@pytest.fixture(scope="session")
def simulated_gateway(shared_stack: Stack, simulated_llama: SimulatedLlama) -> Gateway:
    """A gateway in front of the simulator, with an admin key and few requests per account."""
    return shared_stack.gateway(simulated_llama.url, ADMIN_KEY=ADMIN_KEY, MAX_CONCURRENT_REQUESTS=4)


@pytest.fixture(scope="session")
def simulated_tools_gateway(shared_stack: Stack, simulated_llama: SimulatedLlama) -> Gateway:
    """A gateway in front of the same simulator whose Responses take tools."""
    return shared_stack.gateway(simulated_llama.url, RESPONSES_PROFILE="tools")


@pytest.fixture(scope="session")
def real_llama(shared_stack: Stack) -> RealLlama:
    """A real llama-server with two slots."""
    return shared_stack.real_llama(slots=2, ctx=4096, api_key=UPSTREAM_KEY)


@pytest.fixture(scope="session")
def real_calling_llama(shared_stack: Stack) -> RealLlama:
    """A real llama-server that calls a tool at once if it must, and else ends at once."""
    # The ids of tokens of the tiny model: 263 starts a tool call, 4 ends an answer.
    bias = ("--logit-bias", "263+25", "--logit-bias", "4+30")
    return shared_stack.real_llama(slots=1, ctx=4096, api_key=UPSTREAM_KEY, arguments=bias)


@pytest.fixture(scope="session")
def real_embedder(shared_stack: Stack) -> RealLlama:
    """A real llama-server for embeddings."""
    return shared_stack.real_llama(
        slots=4,
        alias="embedder",
        api_key=UPSTREAM_KEY,
        # Separate caches would split texts of unequal length and pool only the rest of each, so
        # that a text's vector would depend on the rest of its batch.
        arguments=("--embeddings", "--pooling", "mean", "--kv-unified"),
    )


@pytest.fixture(scope="session")
def real_gateway(shared_stack: Stack, real_llama: RealLlama, real_embedder: RealLlama) -> Gateway:
    """A gateway with two workers in front of both real llama-servers."""
    return shared_stack.gateway(
        real_llama.url,
        workers=2,
        LLAMA_API_KEY=UPSTREAM_KEY,
        LLAMA_EMBEDDINGS_BASE_URL=real_embedder.url,
    )


@pytest.fixture(scope="session")
def real_tools_gateway(shared_stack: Stack, real_calling_llama: RealLlama) -> Gateway:
    """A gateway whose Responses take tools, in front of the llama-server that calls them."""
    return shared_stack.gateway(
        real_calling_llama.url, LLAMA_API_KEY=UPSTREAM_KEY, RESPONSES_PROFILE="tools"
    )
