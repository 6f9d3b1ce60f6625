"""Chat completions: the route, its answer whole and streamed, and counting a prompt."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from promptly.gateway.dialects.chat.request import REFUSED, ChatBody
from promptly.openapi.errors import CONTEXT, COUNTED, METERED
from promptly.openapi.operation import Operation

FinishReason = Literal["stop", "length", "tool_calls"]


class AnsweredFunction(Struct):
    name: str
    arguments: str


class AnsweredToolCall(Struct):
    """A call of one of the request's tools; `arguments` is JSON unless `length` cut it off."""

    id: str
    type: Literal["function"]
    function: AnsweredFunction


class AnsweredMessage(Struct):
    """What the model said; thoughts stand in `reasoning_content`."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[AnsweredToolCall] | UnsetType = UNSET


class TopLogprob(Struct):
    """A token that could have stood here; `bytes` are its UTF-8."""

    token: str
    bytes: list[int] | None
    logprob: float
    id: int | UnsetType = UNSET


class TokenLogprob(Struct):
    """A token of the answer and how likely it was."""

    token: str
    bytes: list[int] | None
    logprob: float
    top_logprobs: list[TopLogprob]
    id: int | UnsetType = UNSET


class Logprobs(Struct):
    content: list[TokenLogprob] | None


class PromptDetails(Struct):
    """`cached_tokens` were read before and took no time; they cost the same."""

    cached_tokens: int


class Usage(Struct):
    """Tokens as the model server counted them; this is what is charged."""

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
    """The whole answer. `length` as its finish reason also means that the balance was used up."""

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
    """A part of a tool call: the first one of an `index` names it, the others add arguments."""

    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class Delta(Struct):
    """What a chunk adds to the message."""

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
    """One event of a stream. `choices` is empty in the one that carries the usage."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET


class InputTokens(Struct):
    """The size of a prompt."""

    object: Literal["response.input_tokens"]
    input_tokens: int


NOTES = {
    "model": "Any name is accepted, or none, and means the loaded model; the answer names it.",
    "messages": "The conversation so far.",
    "max_tokens": "The longest answer, in tokens. Without it, what fits the model's context.",
    "max_completion_tokens": "The newer name of `max_tokens`, and stronger.",
    "stream": "Answer with server-sent events as the tokens come.",
    "stream_options": "`include_usage` adds a last chunk with the usage. Needs `stream`.",
    "n": "One answer a request.",
    "top_logprobs": "How many other tokens to tell for each. Needs `logprobs`.",
    "tool_choice": "Whether, or which, tool must be called. Needs `tools`.",
    "reasoning_effort": "How long to think, if the model's template knows it.",
    "chat_template_kwargs": "What the model's template takes besides.",
}

_HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        name="createChatCompletion",
        room="Chat",
        tag="Chat completions",
        summary="Answer a conversation",
        description=(
            "OpenAI's chat completions. Fields that are not listed have no effect; those that a "
            "request had are named in `x-promptly-ignored`. A stream is `data:` events, a comment "
            "every ten seconds while there is nothing to send, and `data: [DONE]`; what fails "
            "after its first byte comes as an event with the error, and then there is no `[DONE]`."
        ),
        body=ChatBody,
        notes=NOTES,
        refused=REFUSED,
        example=_HELLO,
        answer=ChatCompletion,
        answer_text="The answer; as events if `stream` was asked for.",
        event=ChatCompletionChunk,
        ends_with_done=True,
        faults=METERED,
        metered=True,
    ),
    Operation(
        method="post",
        path="/v1/chat/completions/input_tokens",
        name="countChatTokens",
        room="Chat",
        tag="Chat completions",
        summary="Count the tokens of a prompt",
        description="Takes the body of a chat completion; nothing is generated or charged.",
        body=ChatBody,
        notes=NOTES,
        refused=REFUSED,
        example=_HELLO,
        answer=InputTokens,
        answer_text="The count.",
        faults=(*COUNTED, CONTEXT),
    ),
)
