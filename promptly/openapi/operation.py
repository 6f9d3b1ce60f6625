"""How one route is described: what it takes, what it answers, what can go wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from promptly.openapi.errors import OPENAI, ErrorShape, Fault
from promptly.openapi.schemas import Schema


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A part of the path or of the query."""

    name: str
    place: Literal["path", "query"]
    schema: Mapping[str, Any]
    description: str


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path.

    `body`, `answer` and `event` are the types of the request's JSON, of the answer's, and of what
    stands in the `data` of a streamed answer's events. `notes` says what people should know of the
    body's fields; `refused` names fields that it must not have, unless with a value of `empty`, and
    what to do instead; `amend` completes the schemas where the types cannot say what is checked.
    `text` describes an answer that is no JSON, `also` the statuses it comes with besides 200.
    """

    method: Literal["get", "post"]
    path: str
    name: str
    room: str
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
