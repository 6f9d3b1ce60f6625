"""Client JSON of embeddings: checked, reduced to known fields, rewritten in batches."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from promptly.errors import UnsupportedParameter
from promptly.gateway import json_body
from promptly.gateway.chat_request import ignored_fields
from promptly.gateway.dialects import texts
from promptly.gateway.generation import Call
from promptly.gateway.json_bounds import Body
from promptly.gateway.upstream import EMBEDDINGS_PATH

MAX_INPUTS = 2048

Text = Annotated[str, Meta(min_length=1)]


class EmbeddingsBody(Struct, kw_only=True):
    """The known fields of an embeddings request's body."""

    input: Text | Annotated[list[Text], Meta(min_length=1, max_length=MAX_INPUTS)]
    model: Annotated[str, Meta(max_length=256)] | None = None
    encoding_format: Literal["float", "base64"] | None = None


# Upstream ignores it, and vectors of another size than requested would be wrong.
REFUSED = {"dimensions": "the model determines the size of the vectors"}

_KNOWN = frozenset(EmbeddingsBody.__struct_fields__)


@dataclass(slots=True)
class EmbeddingsRequest:
    """A checked request; `inputs` are JSON strings."""

    path: ClassVar[str] = EMBEDDINGS_PATH
    optional: ClassVar[bool] = True
    advice: ClassVar[str] = "Check 'input'."
    param: ClassVar[str] = "input"

    inputs: list[bytes]
    model: str
    encoding_format: str
    ignored: tuple[str, ...]

    @property
    def bounds(self) -> list[int]:
        """Upper bound of each input's size in tokens."""
        return [texts.bound(text) for text in self.inputs]

    def upstream_body(self, start: int, end: int) -> bytes:
        """Build the body for `inputs[start:end]`."""
        return b'{"input":[%b],"encoding_format":"%b"}' % (
            b",".join(self.inputs[start:end]),
            self.encoding_format.encode(),
        )

    def count(self, call: Call) -> int:
        """Return the size of all inputs in tokens."""
        together = texts.count(call, b"[%b]" % b",".join(self.inputs))
        # In a list only the first text gets special tokens.
        special = texts.count(call, b'""')
        return together + special * (len(self.inputs) - 1)


def parse_embeddings(body: Body) -> EmbeddingsRequest:
    """Check the body of an embeddings request; raises InvalidRequest naming the field."""
    value = json_body.decode_object(body)
    texts.refuse_token_ids(
        value, "input", " LangChain's OpenAIEmbeddings needs check_embedding_ctx_length=False."
    )
    for name, advice in REFUSED.items():
        if value.get(name) is not None:
            raise UnsupportedParameter(name, advice)
    asked = json_body.check(value, EmbeddingsBody)
    return EmbeddingsRequest(
        inputs=texts.encode(asked.input),
        model=asked.model or "",
        encoding_format=asked.encoding_format or "float",
        ignored=ignored_fields(value, _KNOWN),
    )
