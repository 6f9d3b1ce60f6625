"""Embeddings without meaning: the vector depends only on the text's length."""

import base64
import struct
from typing import Any

from sandbox.llama import prompt
from sandbox.llama.prompt import Body
from sandbox.llama.replies import BadRequest, too_large

SIZE = 16


def texts_of(body: Body) -> list[str]:
    """Return the texts of a request. Raises BadRequest for anything else."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequest("input must be a string or a list of strings", "server_error", 500)
    return texts


def count(texts: list[str], batch: int) -> int:
    """Return the token count of all texts. Raises BadRequest if one exceeds the batch."""
    counts = [prompt.count_special(text) for text in texts]
    if max(counts) > batch:
        raise too_large(max(counts), batch)
    return sum(counts)


def answer(body: Body, texts: list[str], tokens: int, alias: str) -> dict[str, Any]:
    """Return the body of ``/v1/embeddings``."""
    encoded = body.get("encoding_format") == "base64"
    return {
        "model": body.get("model", alias),
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "data": [_vector(index, text, encoded=encoded) for index, text in enumerate(texts)],
    }


def _vector(index: int, text: str, *, encoded: bool) -> dict[str, Any]:
    values = [((len(text) * 31 + place) % 100) / 100.0 for place in range(SIZE)]
    found: dict[str, Any] = {"embedding": values, "index": index, "object": "embedding"}
    if encoded:
        found["embedding"] = base64.b64encode(struct.pack(f"<{SIZE}f", *values)).decode()
        found["encoding_format"] = "base64"
    return found
