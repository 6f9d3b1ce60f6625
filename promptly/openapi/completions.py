"""Text completions: the route, and its answer whole and streamed."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from promptly.gateway.dialects.completions.request import REFUSED, CompletionBody
from promptly.openapi.chat import Usage
from promptly.openapi.errors import METERED, NO_SERVER
from promptly.openapi.operation import Operation

FinishReason = Literal["stop", "length"]


class Logprobs(Struct):
    """Four lists with an entry for each token; offsets are characters of the choice's text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Choice(Struct):
    """The text after one prompt, whose place is `index`."""

    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: FinishReason


class Completion(Struct):
    """The whole answer. A choice that ends with `length` and no text was never begun: the balance
    was used up before."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class ChunkChoice(Struct):
    """What a chunk adds to the text after one prompt."""

    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class CompletionChunk(Struct):
    """One event of a stream. `choices` is empty in the one that carries the usage."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType = UNSET


NOTES = {
    "model": "Any name is accepted, or none, and means the loaded model; the answer names it.",
    "prompt": "The text to continue, or several, which are answered one after the other.",
    "max_tokens": "The longest text after each prompt, in tokens. Without it, 16.",
    "logprobs": "How many other tokens to tell for each.",
    "stream": "Answer with server-sent events as the tokens come.",
    "stream_options": "`include_usage` adds a last chunk with the usage. Needs `stream`.",
    "n": "One answer to a prompt.",
    "best_of": "One answer to a prompt.",
    "echo": "Only the new text is returned.",
    "suffix": "Text is only continued, not filled in.",
}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/completions",
        name="createCompletion",
        room="Text",
        tag="Completions",
        summary="Continue a text",
        description=(
            "OpenAI's older completions, without a chat template. Fields that are not listed have "
            "no effect; those that a request had are named in `x-promptly-ignored`. A stream is as "
            "that of a chat completion; of several prompts one comes after the other."
        ),
        body=CompletionBody,
        notes=NOTES,
        refused=REFUSED,
        example={"prompt": ["Once upon a time", "It was a dark night"], "max_tokens": 8},
        answer=Completion,
        answer_text="The answer; as events if `stream` was asked for.",
        event=CompletionChunk,
        ends_with_done=True,
        faults=(*METERED, NO_SERVER),
        metered=True,
    ),
)
