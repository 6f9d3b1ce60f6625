"""Fixtures for the shared gateway in front of real llama-servers, one of them for embeddings."""

import pytest

from sandbox.real_llama import RealLlama
from tests.blueprints.v1.client import Client
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def stack(shared_stack: Stack) -> Stack:
    return shared_stack


@pytest.fixture(scope="module")
def llama(real_llama: RealLlama) -> RealLlama:
    return real_llama


@pytest.fixture(scope="module")
def embedder(real_embedder: RealLlama) -> RealLlama:
    return real_embedder


@pytest.fixture(scope="module")
def gateway(real_gateway: Gateway) -> Gateway:
    return real_gateway


@pytest.fixture(scope="module")
def books(stack: Stack) -> BooksReader:
    return stack.books


@pytest.fixture
def account(books: BooksReader) -> Account:
    """An account with an ample balance (1,000,000 paid tokens)."""
    return books.account()


@pytest.fixture
def client(gateway: Gateway, account: Account) -> Client:
    return Client(gateway.url, account.key)
