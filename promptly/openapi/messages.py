"""Messages: the route, the message whole and as events, counting a prompt, and their errors."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from promptly.gateway.dialects.messages.body import EMPTY, REFUSED, CountBody, MessagesBody
from promptly.gateway.dialects.messages.errors import error_type
from promptly.openapi.errors import COUNTED, METERED, ErrorShape, Fault
from promptly.openapi.operation import Operation

StopReason = Literal["end_turn", "max_tokens", "tool_use"]


class AnsweredText(Struct, tag_field="type", tag="text"):
    """What the model said."""

    text: str


class AnsweredThinking(Struct, tag_field="type", tag="thinking"):
    """What the model thought; nothing is signed here."""

    thinking: str
    signature: str


class AnsweredToolUse(Struct, tag_field="type", tag="tool_use"):
    """A call of one of the request's tools; its input is empty if `max_tokens` cut it off."""

    id: str
    name: str
    input: dict[str, Any]


AnsweredBlock = AnsweredText | AnsweredThinking | AnsweredToolUse


class Usage(Struct):
    """Tokens as the model server counted them; their sum is what is charged.

    `cache_read_input_tokens` is the part of the prompt that was still known from before.
    """

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class Message(Struct):
    """The answer. `max_tokens` as its stop reason also means that the balance was used up."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnsweredBlock]
    stop_reason: StopReason | None
    stop_sequence: None
    usage: Usage


class MessageTokens(Struct):
    """The size of a prompt."""

    input_tokens: int


class TextDelta(Struct, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(Struct, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, tag_field="type", tag="signature_delta"):
    signature: str


class InputJsonDelta(Struct, tag_field="type", tag="input_json_delta"):
    """A piece of a call's input; all pieces together are JSON, unless they were cut off."""

    partial_json: str


class MessageStart(Struct, tag_field="type", tag="message_start"):
    """The first event, with an empty message; its counts of the input are final."""

    message: Message


class BlockStart(Struct, tag_field="type", tag="content_block_start"):
    """A block begins, empty."""

    index: int
    content_block: AnsweredBlock


class BlockDelta(Struct, tag_field="type", tag="content_block_delta"):
    """More of the block."""

    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class BlockStop(Struct, tag_field="type", tag="content_block_stop"):
    """The block is whole."""

    index: int


class Ending(Struct):
    stop_reason: StopReason
    stop_sequence: None


class MessageDelta(Struct, tag_field="type", tag="message_delta"):
    """Why the answer ended, and the final usage."""

    delta: Ending
    usage: Usage


class MessageStop(Struct, tag_field="type", tag="message_stop"):
    """The last event of a good answer."""


MessagesEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class ErrorDetails(Struct):
    """The finer code, to decide by."""

    error_code: str


class ErrorDetail(Struct):
    """What went wrong; the message begins with the field's path if one is to blame."""

    type: str
    message: str
    details: ErrorDetails | UnsetType = UNSET


class ErrorEvent(Struct, tag_field="type", tag="error"):
    """The last event of an answer that failed after its beginning."""

    error: ErrorDetail


class MessagesError(Struct, tag_field="type", tag="error"):
    """The body of every error; its id is in the header `request-id`, too."""

    error: ErrorDetail
    request_id: str


ANTHROPIC = ErrorShape(
    MessagesError, ErrorEvent, "Messages", "type", lambda fault: error_type(fault.status)
)
NO_THREADS = Fault(
    400, "thread_unsupported_request", "no conversation is kept here: send all of it"
)

NOTES = {
    "messages": "The conversation so far. The assistant's as the last is the answer's beginning.",
    "model": "Any name is accepted, or none, and means the loaded model; the answer names it.",
    "system": "The first message.",
    "tools": "Tools that the client runs.",
    "tool_choice": "Whether, or which, tool must be called. `any` and `tool` need `tools`.",
    "thinking": "Whether, and how long, to think, if the model's template knows it.",
    "output_config": "How long to think, and the JSON schema of the answer.",
    "output_format": "The older place of `output_config.format`.",
    "context_management": "No effect here: thoughts are the model's template's to keep.",
}
NOTES_OF_AN_ANSWER = {
    **NOTES,
    "max_tokens": "The longest answer, thoughts included.",
    "stream": "Answer with server-sent events as the tokens come.",
    "stop_sequences": "Where to stop. The answer does not tell it from an end of its own.",
}

NEVER = {**REFUSED, "thread": "no conversation is kept here: send all of it"}
_HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/messages",
        name="createMessage",
        room="Messages",
        tag="Messages",
        summary="Answer a conversation, as Anthropic's Messages",
        description=(
            "Anthropic's Messages. Fields that are not listed have no effect; those that a "
            "request had are named in `x-promptly-ignored`. A stream is named events, a comment "
            "every ten seconds while there is nothing to send, and ends with `message_stop`, or "
            "with `error` if it fails after its first byte."
        ),
        body=MessagesBody,
        notes=NOTES_OF_AN_ANSWER,
        refused=NEVER,
        empty=EMPTY,
        example={**_HELLO, "max_tokens": 100},
        answer=Message,
        answer_text="The message; as events if `stream` was asked for.",
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
        room="Messages",
        tag="Messages",
        summary="Count the tokens of a prompt, as Messages",
        description="Takes the body of a message; nothing is generated or charged.",
        body=CountBody,
        notes=NOTES,
        refused=NEVER,
        empty=EMPTY,
        example=_HELLO,
        answer=MessageTokens,
        answer_text="The count.",
        faults=(*COUNTED, NO_THREADS),
        error=ANTHROPIC,
    ),
)
