"""Responses: the routes."""

from promptly.gateway.dialects.responses.body import (
    REFUSED,
    WITHOUT_EFFECT,
    WITHOUT_EFFECT_PREFIX,
    ResponsesBody,
)
from promptly.openapi.chat import InputTokens
from promptly.openapi.errors import COUNTED, METERED, UNKNOWN_PARAMETER
from promptly.openapi.operation import Operation
from promptly.openapi.response_types import Response, ResponsesEvent
from promptly.openapi.schemas import Schema

NOTES = {
    "input": "The conversation: a text, or messages, at least one.",
    "model": "Optional. Any name selects the loaded model; the response names it.",
    "instructions": "A system message before the conversation.",
    "max_output_tokens": "Maximum length of the answer in tokens, reasoning included.",
    "text": "The format of the answer; `verbosity` has no effect.",
    "reasoning": "Reasoning effort; the summary options have no effect.",
    "top_logprobs": "Number of alternatives to return for each token.",
    "metadata": "Repeated in the response, and not stored.",
    "stream": "Stream the answer as server-sent events.",
    "background": "Not supported, except as false.",
    "truncation": "Only `disabled`: input that is too long is refused.",
    "include": "No effect; this one name is accepted.",
    "tools": "Must be empty: tools are called through `/v1/chat/completions`.",
    "stop": "Not part of OpenAI's API: texts at which to stop.",
    "seed": "Not part of OpenAI's API: the seed for sampling.",
}
UNKNOWN = {"type": "null", "description": "Unknown fields must be null."}


def amend(found: dict[str, Schema]) -> None:
    """Add what the types cannot express: refusal of unknown fields, and optional fields."""
    body = found["ResponsesBody"]
    for name in sorted(WITHOUT_EFFECT):
        body["properties"][name] = {"description": "No effect."}
    body["patternProperties"] = {f"^{WITHOUT_EFFECT_PREFIX}": {"description": "No effect."}}
    form = found["ResponsesJsonSchema"]["properties"]
    for name in ("ResponsesPlainText", "ResponsesJsonObject"):
        found[name]["properties"] |= {other: {} for other in form if other != "type"}
    for name in ("Body", "TextOptions", "Reasoning", "PlainText", "JsonObject", "JsonSchema"):
        found[f"Responses{name}"]["additionalProperties"] = UNKNOWN
    message = found["ResponsesInputMessage"]
    message["required"] = ["role", "content"]
    message["properties"]["type"] = {"enum": ["message", None], "default": "message"}
    # An item's type is thus optional and cannot discriminate.
    body["properties"]["input"]["anyOf"][1]["items"].pop("discriminator", None)


_HELLO = {"input": "Hello!"}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/responses",
        name="createResponse",
        schema_prefix="Responses",
        tag="Responses",
        summary="Create a response",
        description=(
            "OpenAI's Responses for text. Fields that are not listed are refused. A stream "
            "consists of named events, a comment every ten seconds while there is nothing to "
            "send, and ends with `response.completed`, `response.incomplete` or "
            "`response.failed`."
        ),
        body=ResponsesBody,
        notes=NOTES,
        refused=REFUSED,
        amend=amend,
        example=_HELLO,
        answer=Response,
        answer_text="The response; as events if `stream` is true.",
        event=ResponsesEvent,
        named_events=True,
        error_in_stream=False,
        faults=(*METERED, UNKNOWN_PARAMETER),
        metered=True,
    ),
    Operation(
        method="post",
        path="/v1/responses/input_tokens",
        name="countResponseTokens",
        schema_prefix="Responses",
        tag="Responses",
        summary="Count the tokens of a response's prompt",
        description="Takes the body of a response; nothing is generated or charged.",
        body=ResponsesBody,
        notes=NOTES,
        refused=REFUSED,
        amend=amend,
        example=_HELLO,
        answer=InputTokens,
        answer_text="The count.",
        faults=(*COUNTED, UNKNOWN_PARAMETER),
    ),
)
