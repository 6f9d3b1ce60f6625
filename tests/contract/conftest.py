"""A dedicated gateway in front of a simulated llama-server with short answers."""

import json
from collections.abc import Iterator

import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client
from tests.contract.contract import Contract
from tests.contract.generation import Sender
from tests.plugins.stacks import MakeStack
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway
from tests.support.stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the operation to each generated test's id; xdist would take equal ids for one test."""
    for item in items:
        label = getattr(item, "operation_label", None)
        if label and item.parent is not None:
            item._id = item.parent.id.child(f"{item.name}[{label}]")


@pytest.fixture(scope="package")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("contract") as stack:
        yield stack


@pytest.fixture(scope="package")
def books(stack: Stack) -> BooksReader:
    return stack.books


@pytest.fixture(scope="package")
def running_llama(stack: Stack) -> SimulatedLlama:
    return stack.simulated_llama(answer_tokens=4, ctx=262_144, embeddings=True)


@pytest.fixture(scope="package")
def running_gateway(stack: Stack, running_llama: SimulatedLlama) -> Gateway:
    return stack.gateway(
        running_llama.url,
        INFERENCE_IP_RATE_LIMIT=10_000_000,
        INFERENCE_USER_RATE_LIMIT=10_000_000,
    )


@pytest.fixture(scope="module")
def llama(running_llama: SimulatedLlama) -> SimulatedLlama:
    running_llama.clear()
    return running_llama


@pytest.fixture(scope="module")
def gateway(running_gateway: Gateway, llama: SimulatedLlama) -> Gateway:
    """The package's gateway; the `llama` behind it is reset."""
    return running_gateway


@pytest.fixture(scope="module")
def account(books: BooksReader) -> Account:
    """An account with a balance that no test can exhaust."""
    return books.account(paid_tokens=10**15)


@pytest.fixture(scope="module")
def client(gateway: Gateway, account: Account) -> Client:
    return Client(gateway.url, account.key)


@pytest.fixture(scope="module")
def sender(gateway: Gateway, account: Account) -> Iterator[Sender]:
    """Sends generated requests to the gateway of the module."""
    made = Sender(gateway.url, account)
    yield made
    made.session.close()


@pytest.fixture(scope="module")
def contract(client: Client) -> Contract:
    """The document as the gateway serves it."""
    return Contract(json.loads(client.get("/openapi.json").body))
