"""Responses: the route, and counting a prompt."""

from promptly.gateway.dialects.responses.body import (
    REFUSED,
    WITHOUT_EFFECT,
    WITHOUT_EFFECT_PREFIX,
    ResponsesBody,
)
from promptly.openapi.chat import InputTokens
from promptly.openapi.errors import CONTEXT, COUNTED, METERED, UNKNOWN_PARAMETER
from promptly.openapi.operation import Operation
from promptly.openapi.response_types import Response, ResponsesEvent
from promptly.openapi.schemas import Schema

NOTES = {
    "input": "The conversation: a text, or messages. At least one message.",
    "model": "Any name is accepted, or none, and means the loaded model; the response names it.",
    "instructions": "A system message before the conversation.",
    "max_output_tokens": "The longest answer, thoughts included.",
    "text": "The format of the answer; `verbosity` has no effect.",
    "reasoning": "How long to think; the summaries have no effect.",
    "top_logprobs": "How many other tokens to tell for each.",
    "metadata": "Repeated in the response, and kept nowhere.",
    "stream": "Answer with server-sent events as the tokens come.",
    "background": "Not supported but as false.",
    "truncation": "What is too long is refused.",
    "include": "There is nothing to include; this one name is accepted.",
    "tools": "Tools are called through `/v1/chat/completions`.",
    "stop": "Not OpenAI's: where to stop.",
    "seed": "Not OpenAI's: the seed of the sampling.",
}
UNKNOWN = {"type": "null", "description": "Not known here."}


def amend(found: dict[str, Schema]) -> None:
    """What the types cannot say: fields that are not known are refused, and what may be missing."""
    body = found["ResponsesBody"]
    for name in sorted(WITHOUT_EFFECT):
        body["properties"][name] = {"description": "No effect here."}
    body["patternProperties"] = {f"^{WITHOUT_EFFECT_PREFIX}": {"description": "No effect here."}}
    form = found["ResponsesJsonSchema"]["properties"]
    for name in ("ResponsesPlainText", "ResponsesJsonObject"):
        found[name]["properties"] |= {other: {} for other in form if other != "type"}
    for name in ("Body", "TextOptions", "Reasoning", "PlainText", "JsonObject", "JsonSchema"):
        found[f"Responses{name}"]["additionalProperties"] = UNKNOWN
    message = found["ResponsesInputMessage"]
    message["required"] = ["role", "content"]
    message["properties"]["type"] = {"enum": ["message", None], "default": "message"}
    # So the type does not tell every item.
    body["properties"]["input"]["anyOf"][1]["items"].pop("discriminator", None)


_HELLO = {"input": "Hello!"}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/responses",
        name="createResponse",
        room="Responses",
        tag="Responses",
        summary="Answer a conversation, as Responses",
        description=(
            "OpenAI's Responses for text. Fields that are not listed are refused. A stream is "
            "named events, a comment every ten seconds while there is nothing to send, and ends "
            "with `response.completed`, `response.incomplete` or `response.failed`."
        ),
        body=ResponsesBody,
        notes=NOTES,
        refused=REFUSED,
        amend=amend,
        example=_HELLO,
        answer=Response,
        answer_text="The response; as events if `stream` was asked for.",
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
        room="Responses",
        tag="Responses",
        summary="Count the tokens of a prompt, as Responses",
        description="Takes the body of a response; nothing is generated or charged.",
        body=ResponsesBody,
        notes=NOTES,
        refused=REFUSED,
        amend=amend,
        example=_HELLO,
        answer=InputTokens,
        answer_text="The count.",
        faults=(*COUNTED, CONTEXT, UNKNOWN_PARAMETER),
    ),
)
