"""Objects of the OpenAI and Anthropic SDKs, checked against what they declare.

The SDKs build their objects without validation: a missing field, a text where a number belongs or
a field that nobody knows goes unnoticed until somebody reads it. Here pydantic looks at each value
in its strict mode, and no field may be unknown but those that a test names.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from pydantic import BaseModel

ModelT = TypeVar("ModelT", bound=BaseModel)

# llama.cpp's number of each token; it tells equal texts apart, so it is passed on.
TOKEN_IDS = {"choices.logprobs.content.id", "choices.logprobs.content.top_logprobs.id"}
# llama.cpp's name for thoughts, for which OpenAI's chat has none.
THOUGHTS = {"choices.message.reasoning_content"}
THOUGHT_DELTAS = {"choices.delta.reasoning_content"}


def strictly(found: ModelT, besides: Iterable[str] = ()) -> ModelT:
    """Return the object; fails unless it is what its class declares, and `besides`.

    `besides` are unknown fields that are meant, as paths without indices.
    """
    assert set(unknown_fields(found)) <= set(besides)
    sent = found.model_dump(mode="json", by_alias=True, exclude_unset=True)
    type(found).model_validate(sent, strict=True)
    return found


def unknown_fields(value: object, path: str = "") -> Iterator[str]:
    """The paths of all fields of a value that its classes do not declare."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}{name}"
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name, None), f"{path}{name}.")
    elif isinstance(value, list):
        for item in value:
            yield from unknown_fields(item, path)
