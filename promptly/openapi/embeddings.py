"""Embeddings: the route and its answer."""

from typing import Literal

from msgspec import Struct

from promptly.gateway.dialects.embeddings.request import REFUSED, EmbeddingsBody
from promptly.openapi.errors import METERED, NO_SERVER
from promptly.openapi.operation import Operation


class Vector(Struct):
    """One input's vector; in base64 it is 32-bit floats, the lowest byte first."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(Struct):
    """Tokens of all inputs as the model server counted them; this is what is charged."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Struct):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Vector]
    model: str
    usage: Usage


NOTES = {
    "model": "Any name is accepted, or none, and means the loaded model; the answer names it.",
    "input": "The text, or several.",
    "encoding_format": "How vectors are written.",
}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/embeddings",
        name="createEmbeddings",
        room="Embeddings",
        tag="Embeddings",
        summary="Turn texts into vectors",
        description=(
            "OpenAI's embeddings. Fields that are not listed have no effect; those that a request "
            "had are named in `x-promptly-ignored`."
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
