"""Translation of embeddings bodies."""

import json
from typing import Any

import pytest

from promptly.errors import InvalidRequest
from promptly.gateway.dialects.embeddings.request import MAX_INPUTS, parse_embeddings


def body(**fields: Any) -> bytes:
    return json.dumps({"input": "hello", **fields}).encode()


MALFORMED: dict[str, tuple[bytes, str | None]] = {
    "no JSON": (b"{", None),
    "no input": (b"{}", "input"),
    "input null": (body(input=None), "input"),
    "input empty": (body(input=""), "input"),
    "input a number": (body(input=5), "input"),
    "inputs empty": (body(input=[]), "input"),
    "an empty input among others": (body(input=["a", ""]), "input[1]"),
    "null among the inputs": (body(input=["a", None]), "input[1]"),
    "too many inputs": (body(input=["a"] * (MAX_INPUTS + 1)), "input"),
    "token ids": (body(input=[1, 2]), "input"),
    "lists of token ids": (body(input=[[1, 2], [3]]), "input"),
    "another size": (body(dimensions=256), "dimensions"),
    "another format": (body(encoding_format="int8"), "encoding_format"),
    "model a number": (body(model=5), "model"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_bodies_are_refused_naming_the_field(name: str) -> None:
    sent, param = MALFORMED[name]
    with pytest.raises(InvalidRequest) as refusal:
        parse_embeddings(sent)
    assert (refusal.value.status, refusal.value.param) == (400, param)


def test_token_ids_are_refused_with_advice() -> None:
    with pytest.raises(InvalidRequest, match="check_embedding_ctx_length=False"):
        parse_embeddings(body(input=[[15496]]))


def test_known_fields_are_written_anew_and_others_named() -> None:
    asked = parse_embeddings(body(input=["a", "b", "ü"], model="x", user="ann", dimensions=None))
    assert json.loads(asked.upstream_body(1, 3)) == {
        "input": ["b", "ü"],
        "encoding_format": "float",
    }
    assert asked.ignored == ("user",)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_one_input(encoding_format: str) -> None:
    asked = parse_embeddings(body(encoding_format=encoding_format))
    sent = json.loads(asked.upstream_body(0, 32))
    assert sent == {"input": ["hello"], "encoding_format": encoding_format}


@pytest.mark.parametrize("text", ["a", "🌍" * 500, '"\\\n'])
def test_the_bound_is_at_least_the_input(text: str) -> None:
    [bound] = parse_embeddings(body(input=text)).bounds
    assert bound >= len(text.encode()) + 2


def test_counting_adds_the_special_tokens_of_every_input() -> None:
    asked = parse_embeddings(body(input=["one", "two", "three"]))

    def call(path: str, data: bytes) -> Any:
        content = json.loads(data)["content"]
        # Three tokens for the text, and one that marks the beginning.
        return {"tokens": [0] * (4 if content else 1)}

    assert asked.count(call) == 3 * 2
