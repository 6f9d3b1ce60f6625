"""`OpenAILike` on completions, and `OpenAILikeEmbedding`."""

import os

import pytest
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

from tests.conformance.asking import HELLO, NO_END, SHORT_TOKENS
from tests.conformance.llama_index.suite import MakeModel

TEXT: str = HELLO[0]["content"]


def test_complete(make_model: MakeModel) -> None:
    model = make_model(is_chat_model=False, max_tokens=SHORT_TOKENS, fields=NO_END)
    assert model.complete(TEXT).text
    assert [part.delta for part in model.stream_complete(TEXT)]


def test_embeddings() -> None:
    model = OpenAILikeEmbedding(
        model_name="any",
        api_base=os.environ["BASE_URL"],
        api_key=os.environ["API_KEY"],
        max_retries=0,
    )
    first, other = model.get_text_embedding_batch([TEXT, "a small boat"])
    assert first != other
    assert model.get_query_embedding(TEXT) == pytest.approx(first, abs=1e-6)
