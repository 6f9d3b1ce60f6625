"""One gateway under gunicorn per session, in front of a simulated llama-server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client
from tests.plugins.stacks import MakeStack
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway
from tests.support.slots import name_slots
from tests.support.stack import Stack

MakeGateway = Callable[..., Gateway]
MakeLlama = Callable[..., SimulatedLlama]


def name_its_slots(stack: Stack, llama: SimulatedLlama, gateway: Gateway) -> None:
    """Let the gateway use the slots of a new model server at once, without the first 10 s."""
    client = Client(gateway.url, stack.books.account().key)
    assert client.chat(max_tokens=1).status == 200
    name_slots(stack.redis_url, llama.url)


@pytest.fixture(scope="session")
def v1_stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("v1") as stack:
        yield stack


@pytest.fixture(scope="session")
def v1_database(v1_stack: Stack) -> str:
    return v1_stack.database_url


@pytest.fixture(scope="session")
def books(v1_stack: Stack) -> BooksReader:
    return v1_stack.books


@pytest.fixture(scope="session")
def running_llama(v1_stack: Stack) -> SimulatedLlama:
    return v1_stack.simulated_llama(slots=4)


@pytest.fixture
def llama(running_llama: SimulatedLlama) -> SimulatedLlama:
    running_llama.clear()
    return running_llama


@pytest.fixture(scope="session")
def running_gateway(v1_stack: Stack, running_llama: SimulatedLlama) -> Gateway:
    return v1_stack.gateway(
        running_llama.url, workers=2, KEEPALIVE_COMMENT_SECONDS=1, BODY_TIMEOUT_SECONDS=2
    )


@pytest.fixture
def gateway(running_gateway: Gateway, llama: SimulatedLlama) -> Gateway:
    """The shared gateway; the `llama` behind it is reset."""
    return running_gateway


@pytest.fixture
def make_gateway(v1_database: str, redis_url: str, tmp_path: Path) -> Iterator[MakeGateway]:
    """Factory of gateways for one test, on the shared database and an empty Redis."""
    with Stack(tmp_path, database_url=v1_database, redis_url=redis_url) as stack:
        yield stack.gateway


@pytest.fixture(scope="session")
def growing_gateway(v1_stack: Stack, running_llama: SimulatedLlama) -> Gateway:
    """A gateway whose holds grow in small steps."""
    return v1_stack.gateway(running_llama.url, HOLD_QUANTUM_TOKENS=16)


@pytest.fixture(scope="session")
def tools_gateway(v1_stack: Stack, running_llama: SimulatedLlama) -> Gateway:
    """A gateway that accepts function tools in Responses."""
    return v1_stack.gateway(running_llama.url, RESPONSES_PROFILE="tools")


@pytest.fixture(scope="session")
def running_narrow_llama(v1_stack: Stack) -> SimulatedLlama:
    return v1_stack.simulated_llama(ctx=2048)


@pytest.fixture(scope="session")
def running_narrow_gateway(v1_stack: Stack, running_narrow_llama: SimulatedLlama) -> Gateway:
    return v1_stack.gateway(running_narrow_llama.url, KEEPALIVE_COMMENT_SECONDS=1)


@pytest.fixture
def narrow_llama(running_narrow_llama: SimulatedLlama) -> SimulatedLlama:
    """A model server with a small context."""
    running_narrow_llama.clear()
    return running_narrow_llama


@pytest.fixture
def narrow_gateway(running_narrow_gateway: Gateway, narrow_llama: SimulatedLlama) -> Gateway:
    """A gateway of one worker, in front of `narrow_llama`."""
    return running_narrow_gateway


@pytest.fixture
def make_llama(tmp_path: Path) -> Iterator[MakeLlama]:
    """Factory of simulated llama-servers for one test."""
    with Stack(tmp_path) as stack:
        yield stack.simulated_llama


@pytest.fixture
def account(books: BooksReader) -> Account:
    """An account with an ample balance."""
    return books.account()


@pytest.fixture
def client(gateway: Gateway, account: Account) -> Client:
    """A client of the shared gateway with the account's key."""
    return Client(gateway.url, account.key)
