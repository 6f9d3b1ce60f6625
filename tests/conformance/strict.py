"""Strict validation of the OpenAI and Anthropic SDKs' objects.

The SDKs build their objects without validation: a missing field, a string instead of a number or
an unknown field goes unnoticed until it is read. Here pydantic validates each value in strict mode,
and only unknown fields that a test names are allowed.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from pydantic import BaseModel

ModelT = TypeVar("ModelT", bound=BaseModel)

# llama.cpp's token ids, passed on because they distinguish tokens with equal text.
TOKEN_IDS = {"choices.logprobs.content.id", "choices.logprobs.content.top_logprobs.id"}
# llama.cpp's field for reasoning, which OpenAI's chat completions lack.
THOUGHTS = {"choices.message.reasoning_content"}
THOUGHT_DELTAS = {"choices.delta.reasoning_content"}


def strictly(found: ModelT, besides: Iterable[str] = ()) -> ModelT:
    """Return the object; fail unless it matches its class, apart from the fields in `besides`.

    `besides` are the expected unknown fields, as paths without indices.
    """
    assert set(unknown_fields(found)) <= set(besides)
    sent = found.model_dump(mode="json", by_alias=True, exclude_unset=True)
    type(found).model_validate(sent, strict=True)
    return found


def unknown_fields(value: object, path: str = "") -> Iterator[str]:
    """Yield the paths of all fields of a value that its classes do not declare."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}{name}"
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name, None), f"{path}{name}.")
    elif isinstance(value, list):
        for item in value:
            yield from unknown_fields(item, path)
