"""`OpenAI` on completions and `OpenAIEmbeddings`, configured as documented."""

from typing import Any

import openai
import pytest
from langchain_openai import OpenAI, OpenAIEmbeddings
from pydantic import SecretStr

from tests.conformance.asking import HELLO, NO_END, SHORT_TOKENS
from tests.conformance.backends import Backend
from tests.support.books import Account

TEXT: str = HELLO[0]["content"]


@pytest.fixture
def given(backend: Backend, account: Account) -> Any:
    """Options that connect any LangChain model to the gateway."""
    with openai.DefaultHttpxClient() as http:
        yield {
            "model": "any",
            "base_url": backend.base_url,
            "api_key": SecretStr(account.key),
            "http_client": http,
        }


def test_completions(given: Any) -> None:
    model = OpenAI(**given, max_tokens=SHORT_TOKENS, extra_body=NO_END)
    assert model.invoke(TEXT)
    assert "".join(model.stream(TEXT))
    assert len(model.generate([TEXT, "hello"]).generations) == 2


def test_embeddings(given: Any) -> None:
    embeddings = OpenAIEmbeddings(**given, check_embedding_ctx_length=False)
    first, other = embeddings.embed_documents([TEXT, "a small boat"])
    assert first != other
    assert embeddings.embed_query(TEXT) == pytest.approx(first, abs=1e-6)
