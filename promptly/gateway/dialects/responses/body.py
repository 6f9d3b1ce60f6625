"""Types of the Responses body: of text alone, and with function tools."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from promptly.gateway.dialects.fields import Count, Name, SessionName, Share, StopWord, Temperature
from promptly.gateway.dialects.responses.items import InputItem, TextItem
from promptly.gateway.dialects.responses.tools import Choice, FunctionTool, NamedFunction
from promptly.gateway.dialects.schema_weight import MAX_TOOLS

# Accepted in `include`, since SDKs request it by default; reasoning is never encrypted here.
ENCRYPTED_THOUGHTS = "reasoning.encrypted_content"
# Needs `top_logprobs`, which alone has an effect.
LOGPROBS = "message.output_text.logprobs"
Includable = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]


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


class ToolsReasoning(Reasoning):
    context: Any = None
    mode: Any = None


class CommonBody(Struct, kw_only=True):
    """The fields with an effect that do not depend on tools."""

    model: Annotated[str, Meta(max_length=256)] | None = None
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    metadata: Metadata | None = None
    prompt_cache_key: SessionName | None = None
    stream: bool | None = None
    # Other values are refused in `request`; the contract lists only those that are accepted.
    background: Annotated[bool, Meta(extra_json_schema={"const": False})] | None = None
    truncation: (
        Annotated[Literal["disabled", "auto"], Meta(extra_json_schema={"const": "disabled"})] | None
    ) = None
    # Not OpenAI's.
    stop: StopWord | Annotated[list[StopWord], Meta(max_length=64)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None


_ITEMS = Meta(min_length=1, max_length=100_000)


class ResponsesBody(CommonBody, kw_only=True):
    """The fields of a Responses body that are known and have an effect; for text alone."""

    input: str | Annotated[list[TextItem], _ITEMS]
    include: list[Annotated[str, Meta(extra_json_schema={"const": ENCRYPTED_THOUGHTS})]] | None = (
        None
    )
    tools: Annotated[list[Any], Meta(extra_json_schema={"maxItems": 0})] | None = None


class ToolsBody(CommonBody, kw_only=True):
    """The fields of a body that are known and have an effect; with function tools."""

    input: str | Annotated[list[InputItem], _ITEMS]
    include: list[Includable] | None = None
    reasoning: ToolsReasoning | None = None
    tools: Annotated[list[FunctionTool | None], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Choice | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
