"""The official OpenAI SDK for Python."""

from collections.abc import Iterator

import openai
import pytest

from tests.conformance.backends import Backend
from tests.support.books import Account


@pytest.fixture
def sdk(backend: Backend, account: Account) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=backend.base_url, api_key=account.key) as client:
        yield client


@pytest.fixture
def async_sdk(backend: Backend, account: Account) -> openai.AsyncOpenAI:
    """An async client, which its user must close in the same event loop: `async with`."""
    return openai.AsyncOpenAI(base_url=backend.base_url, api_key=account.key)
