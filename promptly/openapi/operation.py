"""The description of one route: its input, its responses and its errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from promptly.openapi.errors import OPENAI, ErrorShape, Fault
from promptly.openapi.schemas import Schema


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A path or query parameter."""

    name: str
    place: Literal["path", "query"]
    schema: Mapping[str, Any]
    description: str


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path.

    `body`, `answer` and `event` are the types of the request's JSON, of the response's, and of the
    `data` in the events of a stream; the names of their schemas start with `schema_prefix`. `notes`
    describes fields of the body; `refused` maps fields that the body must not have, except with a
    value of `empty`, to advice; `amend` completes the schemas where the types cannot express what
    is checked. `text` describes a response that is not JSON, `also` lists the statuses it has
    besides 200.
    """

    method: Literal["get", "post"]
    path: str
    name: str
    schema_prefix: str
    tag: str
    summary: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    notes: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    empty: tuple[Any, ...] = (None,)
    amend: Callable[[dict[str, Schema]], None] | None = None
    example: Mapping[str, Any] | None = None
    answer: Any = None
    answer_text: str = "The answer."
    event: Any = None
    named_events: bool = False
    error_in_stream: bool = True
    ends_with_done: bool = False
    text: str = ""
    also: tuple[int, ...] = ()
    faults: tuple[Fault, ...] = ()
    error: ErrorShape = OPENAI
    metered: bool = False
    needs_key: bool = True
