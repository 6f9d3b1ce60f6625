"""Fixtures of the tests that run in llama-index's own environment."""

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.llms.openai_like import OpenAILike

MakeModel = Callable[..., OpenAILike]


def _refuse_other_hosts(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        host = arguments[1][0] if isinstance(arguments[1], tuple) else "localhost"
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", None):
        raise RuntimeError(f"tests do not speak to the network: {host}")


def pytest_configure() -> None:
    sys.addaudithook(_refuse_other_hosts)


@pytest.fixture
def make_model() -> MakeModel:
    """Factory of models on the gateway; `fields` go unchanged into the request's body."""

    def make(
        key: str = os.environ["API_KEY"], fields: dict[str, Any] | None = None, **options: Any
    ) -> OpenAILike:
        given = {"is_chat_model": True, "is_function_calling_model": True, **options}
        return OpenAILike(
            model="any",
            api_base=os.environ["BASE_URL"],
            api_key=key,
            additional_kwargs=fields or {},
            max_retries=0,
            **given,
        )

    return make
