"""Responses: the types of the response and of a stream's events."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class TopLogprob(Struct):
    """An alternative token at this position; `bytes` is its UTF-8 encoding."""

    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(Struct):
    """A token of the answer and its log probability."""

    token: str
    bytes: list[int] | None
    logprob: float
    top_logprobs: list[TopLogprob]


class AnsweredText(Struct, tag_field="type", tag="output_text"):
    """The text of the answer."""

    text: str
    annotations: list[Any]
    logprobs: list[TokenLogprob]


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    """The model's reasoning."""

    text: str


class MessageItem(Struct, tag_field="type", tag="message"):
    """The answer; its content is empty when the item is only added."""

    id: str
    status: ItemStatus
    role: Literal["assistant"]
    content: list[AnsweredText]


class ReasoningItem(Struct, tag_field="type", tag="reasoning"):
    """The reasoning before the answer."""

    id: str
    status: ItemStatus
    summary: list[Any]
    content: list[ReasoningText]


class InputDetails(Struct):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Struct):
    """`reasoning_tokens` is approximate: the model server does not count them separately."""

    reasoning_tokens: int


class ResponsesUsage(Struct):
    """Tokens as counted by the model server, and charged."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Failure(Struct):
    """The reason why a stream failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(Struct):
    """The limit was reached, or the balance exhausted."""

    reason: Literal["max_output_tokens"]


class EchoedReasoning(Struct):
    effort: str | None
    summary: None


class EchoedFormat(Struct):
    """The requested format; a JSON schema includes its name and the schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | UnsetType = UNSET
    schema: dict[str, Any] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class EchoedText(Struct):
    format: EchoedFormat


class Response(Struct):
    """The response, including fields of its request. It is not stored and has no URL."""

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
    """One event of a stream; events are numbered from 0."""

    sequence_number: int


class Created(Event, tag="response.created"):
    """The first event."""

    response: Response


class InProgress(Event, tag="response.in_progress"):
    """The second event."""

    response: Response


class ItemAdded(Event, tag="response.output_item.added"):
    """The start of an item."""

    output_index: int
    item: MessageItem | ReasoningItem


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


class PartDone(PartEvent, tag="response.content_part.done"):
    """The part is complete."""

    part: AnsweredText | ReasoningText


class ItemDone(Event, tag="response.output_item.done"):
    """The item is complete."""

    output_index: int
    item: MessageItem | ReasoningItem


class Completed(Event, tag="response.completed"):
    """The last event of a successful answer."""

    response: Response


class Incomplete(Event, tag="response.incomplete"):
    """The last event of an answer that was truncated at a limit."""

    response: Response


class Failed(Event, tag="response.failed"):
    """The last event of an answer that failed after it started."""

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
