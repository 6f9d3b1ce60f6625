"""Responses: the types of the response."""

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


class FunctionCallItem(Struct, tag_field="type", tag="function_call"):
    """A call of one of the request's functions; `arguments` is JSON unless it was cut off."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


OutputItem = MessageItem | ReasoningItem | FunctionCallItem


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


class EchoedTool(Struct):
    """A function that was offered to the model."""

    type: Literal["function"]
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class EchoedChoice(Struct):
    type: Literal["function"]
    name: str


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
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: None
    tool_choice: Literal["none", "auto", "required"] | EchoedChoice
    tools: list[EchoedTool]
    truncation: Literal["disabled"]
    usage: ResponsesUsage | None
