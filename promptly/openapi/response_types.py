"""Responses: the response, whole and as the events of a stream."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class TopLogprob(Struct):
    """A token that could have stood here; `bytes` are its UTF-8."""

    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(Struct):
    """A token of the answer and how likely it was."""

    token: str
    bytes: list[int] | None
    logprob: float
    top_logprobs: list[TopLogprob]


class AnsweredText(Struct, tag_field="type", tag="output_text"):
    """What the model said."""

    text: str
    annotations: list[Any]
    logprobs: list[TokenLogprob]


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    """What the model thought."""

    text: str


class MessageItem(Struct, tag_field="type", tag="message"):
    """The answer; its content is empty where the item only begins."""

    id: str
    status: ItemStatus
    role: Literal["assistant"]
    content: list[AnsweredText]


class ReasoningItem(Struct, tag_field="type", tag="reasoning"):
    """The thoughts before the answer."""

    id: str
    status: ItemStatus
    summary: list[Any]
    content: list[ReasoningText]


class InputDetails(Struct):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Struct):
    """`reasoning_tokens` is approximate: the model server does not count thoughts apart."""

    reasoning_tokens: int


class ResponsesUsage(Struct):
    """Tokens as the model server counted them; this is what is charged."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Failure(Struct):
    """Why a stream failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(Struct):
    """The limit was reached, or the balance used up."""

    reason: Literal["max_output_tokens"]


class EchoedReasoning(Struct):
    effort: str | None
    summary: None


class EchoedFormat(Struct):
    """The format that was asked for; a JSON schema comes with its name and the schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | UnsetType = UNSET
    schema: dict[str, Any] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class EchoedText(Struct):
    format: EchoedFormat


class Response(Struct):
    """The response, with what it repeats of its request. Nothing is stored: it has no URL."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False]
    error: Failure | None
    incomplete_details: IncompleteDetails | None
    model: str
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    reasoning: EchoedReasoning
    temperature: float | None
    text: EchoedText
    top_logprobs: int
    top_p: float | None
    output: list[MessageItem | ReasoningItem]
    parallel_tool_calls: Literal[False]
    previous_response_id: None
    tool_choice: Literal["auto"]
    tools: list[Any]
    truncation: Literal["disabled"]
    usage: ResponsesUsage | None


class Event(Struct, tag_field="type"):
    """One event of a stream; all are numbered, from 0."""

    sequence_number: int


class Created(Event, tag="response.created"):
    """The first event."""

    response: Response


class InProgress(Event, tag="response.in_progress"):
    """The second event."""

    response: Response


class ItemAdded(Event, tag="response.output_item.added"):
    """An item begins."""

    output_index: int
    item: MessageItem | ReasoningItem


class PartEvent(Event):
    item_id: str
    output_index: int
    content_index: int


class PartAdded(PartEvent, tag="response.content_part.added"):
    """The only part of an item begins."""

    part: AnsweredText | ReasoningText


class TextDelta(PartEvent, tag="response.output_text.delta"):
    """More of the answer."""

    delta: str
    logprobs: list[TokenLogprob]


class ThoughtDelta(PartEvent, tag="response.reasoning_text.delta"):
    """More of the thoughts."""

    delta: str


class TextDone(PartEvent, tag="response.output_text.done"):
    """All of the answer."""

    text: str
    logprobs: list[TokenLogprob]


class ThoughtDone(PartEvent, tag="response.reasoning_text.done"):
    """All of the thoughts."""

    text: str


class PartDone(PartEvent, tag="response.content_part.done"):
    """The part is whole."""

    part: AnsweredText | ReasoningText


class ItemDone(Event, tag="response.output_item.done"):
    """The item is whole."""

    output_index: int
    item: MessageItem | ReasoningItem


class Completed(Event, tag="response.completed"):
    """The last event of a good answer."""

    response: Response


class Incomplete(Event, tag="response.incomplete"):
    """The last event of an answer that was cut off at a limit."""

    response: Response


class Failed(Event, tag="response.failed"):
    """The last event of an answer that failed after its beginning."""

    response: Response


ResponsesEvent = (
    Created
    | InProgress
    | ItemAdded
    | PartAdded
    | TextDelta
    | ThoughtDelta
    | TextDone
    | ThoughtDone
    | PartDone
    | ItemDone
    | Completed
    | Incomplete
    | Failed
)
