"""Plain texts in a client's JSON, one or a list: prompts to complete, inputs to embed."""

from typing import Any

from promptly.errors import InvalidRequest
from promptly.gateway import json_body
from promptly.gateway.generation import Call

# What a tokenizer may add to a text at its beginning and its end.
SPECIAL_TOKENS = 8

TOKENIZE = "/tokenize"


def refuse_token_ids(value: dict[str, Any], name: str, hint: str = "") -> None:
    """Raise InvalidRequest for token ids in place of text.

    They come from the tokenizer of another model, and would silently mean other words.
    """
    given = value.get(name)
    if isinstance(given, list) and any(type(item) in (int, list) for item in given):
        raise InvalidRequest(
            f"'{name}' holds token ids. Send text: ids of another model's tokenizer would mean "
            f"other words here.{hint}",
            param=name,
        )


def bound(encoded: bytes) -> int:
    """At least the tokens of a text, given as JSON: no token is less than a byte."""
    return len(encoded) + SPECIAL_TOKENS


def count(call: Call, encoded: bytes) -> int:
    """The tokens of a text, or of a list of texts in one, with one set of special ones."""
    answer = call(TOKENIZE, b'{"add_special":true,"content":%b}' % encoded)
    return len(answer["tokens"])


def encode(texts: str | list[str]) -> list[bytes]:
    """Each text as JSON; raises InvalidRequest for what JSON cannot carry."""
    return [json_body.encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
