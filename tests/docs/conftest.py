"""The shared gateway in front of the simulator, for the examples in the documents."""

from contextlib import suppress

import pytest

from promptly.errors import InvalidRequest
from promptly.services.accounts import accounts
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway
from tests.support.stack import Stack


@pytest.fixture
def gateway(simulated_gateway: Gateway, simulated_llama: SimulatedLlama) -> Gateway:
    """The shared gateway; the simulator behind it is reset."""
    simulated_llama.clear()
    return simulated_gateway


@pytest.fixture
def books(shared_stack: Stack) -> BooksReader:
    return shared_stack.books


@pytest.fixture
def account(books: BooksReader) -> Account:
    """An account with ample funds; also creates the one that operators' examples modify."""
    settings = books.app.extensions["settings"]
    with books.app.app_context(), suppress(InvalidRequest), transaction():
        accounts.create("user@example.com", settings)
    return books.account()
