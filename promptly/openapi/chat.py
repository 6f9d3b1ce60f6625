"""Chat completions: the routes, and their response and event types."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from promptly.gateway.dialects.chat.request import REFUSED, ChatBody
from promptly.openapi.errors import COUNTED, METERED
from promptly.openapi.operation import Operation
from promptly.openapi.schemas import Schema, allow_other_parts

FinishReason = Literal["stop", "length", "tool_calls"]


class AnsweredFunction(Struct):
    name: str
    arguments: str


class AnsweredToolCall(Struct):
    """A call of one of the request's tools; `arguments` is JSON unless `length` truncated it."""

    id: str
    type: Literal["function"]
    function: AnsweredFunction


class AnsweredMessage(Struct):
    """The model's message; its reasoning is in `reasoning_content`."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[AnsweredToolCall] | UnsetType = UNSET


class TopLogprob(Struct):
    """An alternative token at this position; `bytes` is its UTF-8 encoding."""

    token: str
    bytes: list[int] | None
    logprob: float
    id: int | UnsetType = UNSET


class TokenLogprob(Struct):
    """A token of the answer and its log probability."""

    token: str
    bytes: list[int] | None
    logprob: float
    top_logprobs: list[TopLogprob]
    id: int | UnsetType = UNSET


class Logprobs(Struct):
    content: list[TokenLogprob] | None


class PromptDetails(Struct):
    """`cached_tokens` were in the prompt cache and took no time; they may cost less."""

    cached_tokens: int


class Usage(Struct):
    """Tokens as counted by the model server, and charged."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | UnsetType = UNSET


class Choice(Struct):
    index: int
    message: AnsweredMessage
    logprobs: Logprobs | None
    finish_reason: FinishReason


class ChatCompletion(Struct):
    """The whole answer. Finish reason `length` can also mean that the balance was exhausted."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str | UnsetType = UNSET


class FunctionDelta(Struct):
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class ToolCallDelta(Struct):
    """Part of a tool call: the first of an `index` names the tool, later ones add arguments."""

    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class Delta(Struct):
    """The chunk's addition to the message."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChunkChoice(Struct):
    index: int
    delta: Delta
    finish_reason: FinishReason | None
    logprobs: Logprobs | UnsetType | None = UNSET


class ChatCompletionChunk(Struct):
    """One event of a stream. `choices` is empty in the chunk that carries the usage."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET


class InputTokens(Struct):
    """The token count of a prompt."""

    object: Literal["response.input_tokens"]
    input_tokens: int


NOTES = {
    "model": "Optional. A name of `/v1/models`; any other selects the default model. The answer "
    "names the model.",
    "messages": "The conversation so far.",
    "max_tokens": "Maximum length of the answer in tokens. Default: what fits the model's context.",
    "max_completion_tokens": "The newer name of `max_tokens`, over which it takes precedence.",
    "stream": "Stream the answer as server-sent events.",
    "stream_options": "`include_usage` adds a final chunk with the usage. Requires `stream`.",
    "n": "Only one answer per request.",
    "top_logprobs": "Number of alternatives to return for each token, by default none. Requires "
    "`logprobs`, unless 0.",
    "tool_choice": "Whether a tool must be called, and which. Requires `tools`.",
    "reasoning_effort": "Reasoning effort, if the model's template supports it.",
    "chat_template_kwargs": "Further arguments for the model's template.",
}


def _amend(found: dict[str, Schema]) -> None:
    """Add the parts of a tool's result that become a short text."""
    allow_other_parts(found["ChatToolMessage"]["properties"]["content"], ("text",))


_HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        name="createChatCompletion",
        schema_prefix="Chat",
        tag="Chat completions",
        summary="Create a chat completion",
        description=(
            "OpenAI's chat completions. Fields that are not listed have no effect; "
            "`x-promptly-ignored` names those that the request contained. Parts of a tool's result "
            "that are not text become a short text, and are named there too. A stream consists of "
            "`data:` events, a comment every ten seconds while there is nothing to send, and "
            "`data: [DONE]`; a failure after the first byte is sent as an event with the error, "
            "without `[DONE]`."
        ),
        body=ChatBody,
        notes=NOTES,
        refused=REFUSED,
        amend=_amend,
        example=_HELLO,
        answer=ChatCompletion,
        answer_text="The answer; as events if `stream` is true.",
        event=ChatCompletionChunk,
        ends_with_done=True,
        faults=METERED,
        metered=True,
    ),
    Operation(
        method="post",
        path="/v1/chat/completions/input_tokens",
        name="countChatTokens",
        schema_prefix="Chat",
        tag="Chat completions",
        summary="Count the tokens of a prompt",
        description="Takes the body of a chat completion; nothing is generated or charged.",
        body=ChatBody,
        notes=NOTES,
        refused=REFUSED,
        amend=_amend,
        example=_HELLO,
        answer=InputTokens,
        answer_text="The count.",
        faults=COUNTED,
    ),
)
