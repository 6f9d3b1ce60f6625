"""Embeddings."""

from typing import Any

import openai
import pytest

from tests.conformance.strict import strictly

TEXTS = ["hello world", "a small boat", "hello world"]


# By default the SDK requests base64 and decodes it.
@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
def test_vectors(sdk: openai.OpenAI, form: Any) -> None:
    raw = sdk.embeddings.with_raw_response.create(model="any", input=TEXTS, **form)
    answer = strictly(raw.parse())
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    first, other, again = (entry.embedding for entry in answer.data)
    assert first == pytest.approx(again, abs=1e-6)
    assert first != pytest.approx(other, abs=1e-3)
    assert len(first) == len(other) > 1
    assert raw.headers["x-promptly-charged-tokens"] == str(answer.usage.total_tokens)


def test_both_forms_are_the_same_vector(sdk: openai.OpenAI) -> None:
    forms: list[dict[str, Any]] = [{}, {"encoding_format": "float"}]
    made = [
        sdk.embeddings.create(model="any", input="hello world", **form).data[0].embedding
        for form in forms
    ]
    assert made[0] == pytest.approx(made[1], abs=1e-6)


def test_more_than_a_batch(sdk: openai.OpenAI) -> None:
    answer = sdk.embeddings.create(model="any", input=[f"text {number}" for number in range(70)])
    assert [entry.index for entry in answer.data] == list(range(70))


@pytest.mark.parametrize(
    ("fields", "param"), [({"dimensions": 2}, "dimensions"), ({"input": [[1, 2]]}, "input")]
)
def test_a_bad_request(sdk: openai.OpenAI, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.embeddings.create(**{"model": "any", "input": TEXTS, **fields})
    assert refusal.value.param is not None
    assert refusal.value.param.startswith(param)
