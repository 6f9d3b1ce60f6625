"""LangChain without its tracing, which would call a service on the internet."""

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.conformance.backends import Backend
from tests.support.books import Account

MakeModel = Callable[..., ChatOpenAI]


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "false")


@pytest.fixture
def make_model(backend: Backend, account: Account) -> Iterator[MakeModel]:
    """Factory of chat models on the gateway; options are `ChatOpenAI`'s.

    LangChain itself would keep its connections until the process ends. An async test must pass and
    close an `http_async_client` of its own.
    """
    with openai.DefaultHttpxClient() as http:

        def make(key: str = account.key, **options: Any) -> ChatOpenAI:
            given: dict[str, Any] = {"http_client": http, **options}
            return ChatOpenAI(
                model="any", base_url=backend.base_url, api_key=SecretStr(key), **given
            )

        yield make
