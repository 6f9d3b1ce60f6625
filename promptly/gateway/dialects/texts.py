"""Plain texts in a client's JSON, single or in a list: prompts to complete, inputs to embed."""

from typing import Any

from promptly.errors import InvalidRequest
from promptly.gateway import json_body
from promptly.gateway.generation import Call

# Upper bound of the special tokens that a tokenizer adds at the start and end of a text.
SPECIAL_TOKENS = 8

TOKENIZE = "/tokenize"


def refuse_token_ids(value: dict[str, Any], name: str, hint: str = "") -> None:
    """Raise InvalidRequest for token ids in place of text.

    They come from another model's tokenizer, and would silently mean different words.
    """
    given = value.get(name)
    if isinstance(given, list) and any(type(item) in (int, list) for item in given):
        raise InvalidRequest(
            f"'{name}' contains token ids. Send text: ids of another model's tokenizer would mean "
            f"different words here.{hint}",
            param=name,
        )


def bound(encoded: bytes) -> int:
    """Return an upper bound of a JSON text's tokens: a token is at least one byte."""
    return len(encoded) + SPECIAL_TOKENS


def count(call: Call, encoded: bytes) -> int:
    """Count the tokens of a text, or of a list of texts, with one set of special tokens."""
    answer = call(TOKENIZE, b'{"add_special":true,"content":%b}' % encoded)
    return len(answer["tokens"])


def encode(texts: str | list[str]) -> list[bytes]:
    """Return each text as JSON; raises InvalidRequest if JSON cannot represent it."""
    return [json_body.encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
