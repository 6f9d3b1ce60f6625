"""Messages: the routes, and their response, event and error types."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from promptly.gateway.dialects.messages.body import EMPTY, REFUSED, CountBody, MessagesBody
from promptly.gateway.dialects.messages.errors import error_type
from promptly.openapi.errors import COUNTED, METERED, ErrorShape, Fault
from promptly.openapi.operation import Operation
from promptly.openapi.schemas import Schema, allow_other_parts

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class AnsweredText(Struct, tag_field="type", tag="text"):
    """The text of the answer."""

    text: str


class AnsweredThinking(Struct, tag_field="type", tag="thinking"):
    """The model's reasoning; `signature` is not a real signature."""

    thinking: str
    signature: str


class AnsweredToolUse(Struct, tag_field="type", tag="tool_use"):
    """A call of one of the request's tools; `input` is empty if `max_tokens` truncated it."""

    id: str
    name: str
    input: dict[str, Any]


AnsweredBlock = AnsweredText | AnsweredThinking | AnsweredToolUse


class Usage(Struct):
    """Counted tokens, charged at their prices; `cache_read_input_tokens` were cached."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class Message(Struct):
    """The answer. Stop reason `max_tokens` can also mean that the balance was exhausted."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnsweredBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: Usage


class MessageTokens(Struct):
    """The token count of a prompt."""

    input_tokens: int


class TextDelta(Struct, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(Struct, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, tag_field="type", tag="signature_delta"):
    signature: str


class InputJsonDelta(Struct, tag_field="type", tag="input_json_delta"):
    """Part of a call's input; all parts together are JSON, unless truncated."""

    partial_json: str


class MessageStart(Struct, tag_field="type", tag="message_start"):
    """The first event, with an empty message; its input token counts are final."""

    message: Message


class BlockStart(Struct, tag_field="type", tag="content_block_start"):
    """The start of a block, which is empty."""

    index: int
    content_block: AnsweredBlock


class BlockDelta(Struct, tag_field="type", tag="content_block_delta"):
    """An addition to the block."""

    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class BlockStop(Struct, tag_field="type", tag="content_block_stop"):
    """The block is complete."""

    index: int


class Ending(Struct):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Struct, tag_field="type", tag="message_delta"):
    """The stop reason and the final usage."""

    delta: Ending
    usage: Usage


class MessageStop(Struct, tag_field="type", tag="message_stop"):
    """The last event of a successful answer."""


MessagesEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class ErrorDetails(Struct):
    """The specific error code, for programs to check."""

    error_code: str


class ErrorDetail(Struct):
    """Details of the error; the message begins with the path of the invalid field, if any."""

    type: str
    message: str
    details: ErrorDetails | UnsetType = UNSET


class ErrorEvent(Struct, tag_field="type", tag="error"):
    """The last event of an answer that failed after it started."""

    error: ErrorDetail


class MessagesError(Struct, tag_field="type", tag="error"):
    """The body of every error; the header `request-id` has the id, too."""

    error: ErrorDetail
    request_id: str


ANTHROPIC = ErrorShape(
    MessagesError, ErrorEvent, "Messages", "type", lambda fault: error_type(fault.status)
)
NO_THREADS = Fault(
    400, "thread_unsupported_request", "nothing is stored here, send the whole conversation"
)

NOTES = {
    "messages": "The conversation so far. A final assistant message is the answer's beginning.",
    "model": "Optional. A name of `/v1/models`; any other selects the default model. The answer "
    "names the model.",
    "system": "The system prompt.",
    "tools": "Tools that the client executes.",
    "tool_choice": "Whether a tool must be called, and which. `any` and `tool` require `tools`.",
    "thinking": "Whether and how long to reason, if the model's template supports it.",
    "output_config": "Reasoning effort, and the JSON schema of the answer.",
    "output_format": "The older location of `output_config.format`.",
    "context_management": "No effect: the model's template decides which reasoning is kept.",
}
NOTES_OF_AN_ANSWER = {
    **NOTES,
    "max_tokens": "Maximum length of the answer in tokens, reasoning included.",
    "stream": "Stream the answer as server-sent events.",
    "stop_sequences": "Texts at which to stop; the answer names the one that ended it.",
}


def _amend(found: dict[str, Schema]) -> None:
    """Add the parts of a tool's result that become a short text."""
    allow_other_parts(found["MessagesToolResultBlock"]["properties"]["content"], ("text",))


NEVER = {**REFUSED, "thread": "nothing is stored here, send the whole conversation"}
_HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/messages",
        name="createMessage",
        schema_prefix="Messages",
        tag="Messages",
        summary="Create a message",
        description=(
            "Anthropic's Messages. Fields that are not listed have no effect; "
            "`x-promptly-ignored` names those that the request contained. Parts of a tool result "
            "that are not text become a short text, and are named there too. A stream consists of "
            "named events, a comment every ten seconds while there is nothing to send, and ends "
            "with `message_stop`, or with `error` if it fails after its first byte."
        ),
        body=MessagesBody,
        notes=NOTES_OF_AN_ANSWER,
        refused=NEVER,
        empty=EMPTY,
        amend=_amend,
        example={**_HELLO, "max_tokens": 100},
        answer=Message,
        answer_text="The message; as events if `stream` is true.",
        event=MessagesEvent,
        named_events=True,
        faults=(*METERED, NO_THREADS),
        error=ANTHROPIC,
        metered=True,
    ),
    Operation(
        method="post",
        path="/v1/messages/count_tokens",
        name="countMessageTokens",
        schema_prefix="Messages",
        tag="Messages",
        summary="Count the tokens of a message's prompt",
        description="Takes the body of a message; nothing is generated or charged.",
        body=CountBody,
        notes=NOTES,
        refused=NEVER,
        empty=EMPTY,
        amend=_amend,
        example=_HELLO,
        answer=MessageTokens,
        answer_text="The count.",
        faults=(*COUNTED, NO_THREADS),
        error=ANTHROPIC,
    ),
)
