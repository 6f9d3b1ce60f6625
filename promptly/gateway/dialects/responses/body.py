"""Types of the Responses body, and which of OpenAI's fields are refused or have no effect."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from promptly.gateway.dialects.fields import Count, Name, Share, StopWord, Temperature

# Accepted in `include`, since SDKs request it by default; reasoning is never encrypted here.
ENCRYPTED_THOUGHTS = "reasoning.encrypted_content"


class InputText(Struct, tag_field="type", tag="input_text"):
    text: str


class OutputText(Struct, tag_field="type", tag="output_text"):
    text: str


class Refusal(Struct, tag_field="type", tag="refusal"):
    refusal: str


Part = InputText | OutputText | Refusal


class InputMessage(Struct, tag_field="type", tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]


class PastReasoning(Struct, tag_field="type", tag="reasoning"):
    """Reasoning of an earlier answer, as SDKs send it back; the model does not see it again."""


InputItem = InputMessage | PastReasoning


class PlainText(Struct, tag_field="type", tag="text"):
    pass


class JsonObject(Struct, tag_field="type", tag="json_object"):
    pass


class JsonSchema(Struct, tag_field="type", tag="json_schema", omit_defaults=True):
    name: Name
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextOptions(Struct):
    format: PlainText | JsonObject | JsonSchema | None = None
    verbosity: Any = None


class Reasoning(Struct):
    effort: Annotated[str, Meta(max_length=32)] | None = None
    summary: Any = None
    generate_summary: Any = None


Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]


class ResponsesBody(Struct, kw_only=True):
    """The fields of a Responses body that are known and have an effect."""

    input: str | Annotated[list[InputItem], Meta(min_length=1, max_length=100_000)]
    model: Annotated[str, Meta(max_length=256)] | None = None
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
    # Other values are refused in `request`; the contract lists only those that are accepted.
    background: Annotated[bool, Meta(extra_json_schema={"const": False})] | None = None
    truncation: (
        Annotated[Literal["disabled", "auto"], Meta(extra_json_schema={"const": "disabled"})] | None
    ) = None
    include: list[Annotated[str, Meta(extra_json_schema={"const": ENCRYPTED_THOUGHTS})]] | None = (
        None
    )
    tools: Annotated[list[Any], Meta(extra_json_schema={"maxItems": 0})] | None = None
    # Not OpenAI's.
    stop: StopWord | Annotated[list[StopWord], Meta(max_length=64)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None


NO_TOOLS = "use /v1/chat/completions for tools"
NOTHING_STORED = "nothing is stored here; send the whole conversation as 'input'"
REFUSED = {
    "previous_response_id": NOTHING_STORED,
    "conversation": NOTHING_STORED,
    "prompt": NOTHING_STORED,
    "tool_choice": NO_TOOLS,
    "parallel_tool_calls": NO_TOOLS,
    "max_tool_calls": NO_TOOLS,
}
WITHOUT_EFFECT = frozenset({"store", "user", "service_tier", "safety_identifier", "stream_options"})
WITHOUT_EFFECT_PREFIX = "prompt_cache_"
