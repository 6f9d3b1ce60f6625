"""Text completions: the route, and its response and event types."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from promptly.gateway.dialects.completions.request import REFUSED, CompletionBody
from promptly.openapi.chat import Usage
from promptly.openapi.errors import METERED, NO_SERVER
from promptly.openapi.operation import Operation

FinishReason = Literal["stop", "length"]


class Logprobs(Struct):
    """Four lists with one entry per token; offsets count characters of the choice's text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Choice(Struct):
    """The continuation of one prompt; `index` is the prompt's position."""

    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: FinishReason


class Completion(Struct):
    """The whole answer. An empty choice with `length` never started: the balance was exhausted."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class ChunkChoice(Struct):
    """The chunk's addition to the continuation of one prompt."""

    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class CompletionChunk(Struct):
    """One event of a stream. `choices` is empty in the chunk that carries the usage."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType = UNSET


NOTES = {
    "model": "Optional. A name of `/v1/models`; any other selects the default model. The answer "
    "names the model.",
    "prompt": "The text to continue, or a list of texts, answered one after the other.",
    "max_tokens": "Maximum length of each continuation in tokens. Default: 16.",
    "logprobs": "Number of alternatives to return for each token.",
    "stream": "Stream the answer as server-sent events.",
    "stream_options": "`include_usage` adds a final chunk with the usage. Requires `stream`.",
    "n": "Only one answer per prompt.",
    "best_of": "Only one answer per prompt.",
    "echo": "Not supported: only the new text is returned.",
    "suffix": "Not supported: text is continued, not filled in.",
}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/completions",
        name="createCompletion",
        schema_prefix="Text",
        tag="Completions",
        summary="Create a completion",
        description=(
            "OpenAI's older completions, without a chat template. Fields that are not listed have "
            "no effect; `x-promptly-ignored` names those that the request contained. Streams are "
            "like those of chat completions; several prompts are answered one after the other."
        ),
        body=CompletionBody,
        notes=NOTES,
        refused=REFUSED,
        example={"prompt": ["Once upon a time", "It was a dark night"], "max_tokens": 8},
        answer=Completion,
        answer_text="The answer; as events if `stream` is true.",
        event=CompletionChunk,
        ends_with_done=True,
        faults=(*METERED, NO_SERVER),
        metered=True,
    ),
)
