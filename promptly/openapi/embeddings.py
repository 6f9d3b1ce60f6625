"""Embeddings: the route and its response types."""

from typing import Literal

from msgspec import Struct

from promptly.gateway.dialects.embeddings.request import REFUSED, EmbeddingsBody
from promptly.openapi.errors import METERED, NO_SERVER
from promptly.openapi.operation import Operation


class Vector(Struct):
    """The vector of one input; in base64 it is little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(Struct):
    """Tokens of all inputs as counted by the model server, and charged."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Struct):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Vector]
    model: str
    usage: Usage


NOTES = {
    "model": "Optional. A name of `/v1/models`; any other selects the default model. The answer "
    "names the model.",
    "input": "A text, or a list of texts.",
    "encoding_format": "Encoding of the vectors.",
}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/embeddings",
        name="createEmbeddings",
        schema_prefix="Embeddings",
        tag="Embeddings",
        summary="Create embeddings",
        description=(
            "OpenAI's embeddings. Fields that are not listed have no effect; `x-promptly-ignored` "
            "names those that the request contained."
        ),
        body=EmbeddingsBody,
        notes=NOTES,
        refused=REFUSED,
        example={"input": ["a fast brown fox", "a lazy dog"]},
        answer=Embeddings,
        answer_text="The vectors.",
        faults=(*METERED, NO_SERVER),
        metered=True,
    ),
)
