"""Responses: the routes."""

from collections.abc import Callable
from functools import partial

from promptly.gateway.dialects.responses.profile import (
    PROFILES,
    TOOLS,
    WITHOUT_EFFECT_PREFIX,
    Profile,
)
from promptly.openapi.chat import InputTokens
from promptly.openapi.errors import COUNTED, METERED, UNKNOWN_PARAMETER
from promptly.openapi.operation import Operation
from promptly.openapi.response_events import ResponsesEvent
from promptly.openapi.response_types import Response
from promptly.openapi.schemas import Schema, allow_other_parts

NOTES = {
    "input": "The conversation: a text, or messages, at least one.",
    "model": "Optional. A name of `/v1/models`; any other selects the default model. The response "
    "names the model.",
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
    "tools": (
        "Must be empty: tools are called through `/v1/chat/completions`, or here if this gateway "
        "runs with `RESPONSES_PROFILE=tools`."
    ),
    "stop": "Not part of OpenAI's API: texts at which to stop.",
    "seed": "Not part of OpenAI's API: the seed for sampling.",
}
TOOLS_NOTES = NOTES | {
    "input": (
        "The conversation: a text, or items, at least one message or call. An output needs its "
        "call in the same list."
    ),
    "include": "No effect. Logprobs need `top_logprobs`.",
    "tools": (
        "The functions that the model may call. Tools of other types are left out, and named in "
        "`x-promptly-ignored`, if at least one function remains."
    ),
    "top_logprobs": "Number of alternatives to return for each token; without tools only.",
    "tool_choice": "Whether a tool must be called, and which. Requires `tools`.",
    "parallel_tool_calls": "With false, at most one call is returned.",
    "text": (
        "The format of the answer, or of its text if the model calls no tool; `verbosity` has no "
        "effect. Beside tools, a JSON schema must be one of an object."
    ),
}
UNKNOWN = {"type": "null", "description": "Unknown fields must be null."}
_OTHER_TOOL = {
    "type": "object",
    "properties": {"type": {"type": "string", "not": {"const": "function"}}},
    "required": ["type"],
    "description": "A tool of another type, which is left out.",
}
_NULL = {"type": "null"}
# Only the assistant's message may lack its content.
_ASSISTANT = {"properties": {"role": {"const": "assistant"}}}
_WITH_CONTENT = {"properties": {"content": {"not": _NULL}}, "required": ["content"]}


def _amend(profile: Profile, found: dict[str, Schema]) -> None:
    """Add what the types cannot express: refusal of unknown fields, and optional fields."""
    body = found[_name(profile.body)]
    for name in sorted(profile.without_effect):
        body["properties"][name] = {"description": "No effect."}
    body["patternProperties"] = {f"^{WITHOUT_EFFECT_PREFIX}": {"description": "No effect."}}
    form = found["ResponsesJsonSchema"]["properties"]
    for name in ("ResponsesPlainText", "ResponsesJsonObject"):
        found[name]["properties"] |= {other: {} for other in form if other != "type"}
    reasoning = "ToolsReasoning" if profile is TOOLS else "Reasoning"
    for name in ("TextOptions", reasoning, "PlainText", "JsonObject", "JsonSchema"):
        found[f"Responses{name}"]["additionalProperties"] = UNKNOWN
    body["additionalProperties"] = UNKNOWN
    message = found["ResponsesInputMessage"]
    message["required"] = ["role"]
    message["properties"]["type"] = {"enum": ["message", None], "default": "message"}
    content = message["properties"]["content"]
    content["anyOf"] = [kind for kind in content["anyOf"] if kind != _NULL] + [_NULL]
    message["anyOf"] = [_ASSISTANT, _WITH_CONTENT]
    # An item's type is thus optional and cannot discriminate.
    body["properties"]["input"]["anyOf"][1]["items"].pop("discriminator", None)
    if profile is TOOLS:
        _amend_tools(found)


def _amend_tools(found: dict[str, Schema]) -> None:
    """Add the tools and parts that are left out; repeated for each route, with the same result."""
    properties = found["ResponsesToolsBody"]["properties"]
    tools = next(kind for kind in properties["tools"]["anyOf"] if kind.get("type") == "array")
    function = next(kind for kind in tools["items"]["anyOf"] if "$ref" in kind)
    tools["items"]["anyOf"] = [function, _OTHER_TOOL]
    tools["anyOf"] = [{"contains": function}, {"maxItems": 0}]
    for name in ("FunctionCallOutput", "CustomToolCallOutput", "LocalShellCallOutput"):
        output = found[f"Responses{name}"]["properties"]["output"]
        allow_other_parts(output, ("input_text", "output_text"))


def _name(body: type) -> str:
    return body.__name__ if body.__name__.startswith("Responses") else f"Responses{body.__name__}"


_HELLO = {"input": "Hello!"}


def operations(responses_profile: str) -> tuple[Operation, ...]:
    """Return the operations of a gateway with this RESPONSES_PROFILE."""
    profile = PROFILES[responses_profile]
    amend = partial(_amend, profile)
    return _create(profile, amend), _count(profile, amend)


def _notes(profile: Profile) -> dict[str, str]:
    return TOOLS_NOTES if profile is TOOLS else NOTES


def _create(profile: Profile, amend: Callable[[dict[str, Schema]], None]) -> Operation:
    subject = "text and function tools" if profile is TOOLS else "text"
    return Operation(
        method="post",
        path="/v1/responses",
        name="createResponse",
        schema_prefix="Responses",
        tag="Responses",
        summary="Create a response",
        description=(
            f"OpenAI's Responses for {subject}. Fields that are not listed are refused. A stream "
            "consists of named events, a comment every ten seconds while there is nothing to "
            "send, and ends with `response.completed`, `response.incomplete` or "
            "`response.failed`."
        ),
        body=profile.body,
        notes=_notes(profile),
        refused=profile.refused,
        amend=amend,
        example=_HELLO,
        answer=Response,
        answer_text="The response; as events if `stream` is true.",
        event=ResponsesEvent,
        named_events=True,
        error_in_stream=False,
        faults=(*METERED, UNKNOWN_PARAMETER),
        metered=True,
    )


def _count(profile: Profile, amend: Callable[[dict[str, Schema]], None]) -> Operation:
    return Operation(
        method="post",
        path="/v1/responses/input_tokens",
        name="countResponseTokens",
        schema_prefix="Responses",
        tag="Responses",
        summary="Count the tokens of a response's prompt",
        description="Takes the body of a response; nothing is generated or charged.",
        body=profile.body,
        notes=_notes(profile),
        refused=profile.refused,
        amend=amend,
        example=_HELLO,
        answer=InputTokens,
        answer_text="The count.",
        faults=(*COUNTED, UNKNOWN_PARAMETER),
    )
