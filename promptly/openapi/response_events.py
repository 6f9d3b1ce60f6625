"""Responses: the types of a stream's events."""

from msgspec import Struct

from promptly.openapi.response_types import (
    AnsweredText,
    OutputItem,
    ReasoningText,
    Response,
    TokenLogprob,
)


class Event(Struct, tag_field="type"):
    """One event of a stream; events are numbered from 0."""

    sequence_number: int


class ResponseEvent(Event):
    response: Response


class Created(ResponseEvent, tag="response.created"):
    """The first event."""


class InProgress(ResponseEvent, tag="response.in_progress"):
    """The second event."""


class ItemEvent(Event):
    output_index: int
    item: OutputItem


class ItemAdded(ItemEvent, tag="response.output_item.added"):
    """The start of an item."""


class PartEvent(Event):
    item_id: str
    output_index: int
    content_index: int


class PartAdded(PartEvent, tag="response.content_part.added"):
    """The start of the only part of an item."""

    part: AnsweredText | ReasoningText


class TextDelta(PartEvent, tag="response.output_text.delta"):
    """An addition to the answer."""

    delta: str
    logprobs: list[TokenLogprob]


class ThoughtDelta(PartEvent, tag="response.reasoning_text.delta"):
    """An addition to the reasoning."""

    delta: str


class TextDone(PartEvent, tag="response.output_text.done"):
    """The whole text of the answer."""

    text: str
    logprobs: list[TokenLogprob]


class ThoughtDone(PartEvent, tag="response.reasoning_text.done"):
    """The whole text of the reasoning."""

    text: str


class ArgumentsDelta(Event, tag="response.function_call_arguments.delta"):
    """An addition to a call's arguments."""

    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(Event, tag="response.function_call_arguments.done"):
    """The whole arguments of a call."""

    item_id: str
    output_index: int
    arguments: str


class PartDone(PartEvent, tag="response.content_part.done"):
    """The part is complete."""

    part: AnsweredText | ReasoningText


class ItemDone(ItemEvent, tag="response.output_item.done"):
    """The item is complete."""


class Completed(ResponseEvent, tag="response.completed"):
    """The last event of a successful answer."""


class Incomplete(ResponseEvent, tag="response.incomplete"):
    """The last event of an answer that was truncated at a limit."""


class Failed(ResponseEvent, tag="response.failed"):
    """The last event of an answer that failed after it started."""


ResponsesEvent = (
    Created
    | InProgress
    | ItemAdded
    | PartAdded
    | TextDelta
    | ThoughtDelta
    | TextDone
    | ThoughtDone
    | ArgumentsDelta
    | ArgumentsDone
    | PartDone
    | ItemDone
    | Completed
    | Incomplete
    | Failed
)
