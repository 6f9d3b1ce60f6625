"""Client JSON of Responses: checked, and turned into a chat request.

Fields without an effect are named in `x-promptly-ignored`. Those that would change the answer if
dropped are refused, and so are all unknown ones. `null` means absent everywhere. The profile says
whether tools are accepted.
"""

from typing import Any

from promptly.errors import InvalidRequest, UnsupportedParameter
from promptly.gateway import json_body
from promptly.gateway.chat_request import (
    MAX_IGNORED,
    ChatRequest,
    ignored_fields,
    make_chat_request,
)
from promptly.gateway.dialects import unsupported_parts
from promptly.gateway.dialects.chat import request as chat
from promptly.gateway.dialects.responses.answer_tool import make_answer_tool
from promptly.gateway.dialects.responses.body import (
    ENCRYPTED_THOUGHTS,
    LOGPROBS,
    JsonObject,
    JsonSchema,
    PlainText,
    ResponsesBody,
    ToolsBody,
)
from promptly.gateway.dialects.responses.echo import Echo, make_echo
from promptly.gateway.dialects.responses.items import HOSTED_TYPES, OUTPUT_TYPES, chat_messages
from promptly.gateway.dialects.responses.profile import NO_REFERENCE, NO_TOOLS, TEXT, TOOLS, Profile
from promptly.gateway.dialects.responses.tools import Offer, chat_tool, leave_out_others
from promptly.gateway.dialects.schema_weight import check_schemas
from promptly.gateway.json_bounds import Body

Json = dict[str, Any]

_PARTS = ("input_text", "output_text", "refusal")
_OUTPUT_PARTS = ("input_text", "output_text")
_NESTED_WITHOUT_EFFECT = (
    ("text", "verbosity"),
    ("reasoning", "summary"),
    ("reasoning", "generate_summary"),
    ("reasoning", "context"),
    ("reasoning", "mode"),
)


def parse_responses(body: Body, profile: Profile = TEXT) -> tuple[ChatRequest, Echo]:
    """Check the body of a Responses request; raises InvalidRequest naming the field."""
    decoded = json_body.decode_object(body)
    value = {name: item for name, item in decoded.items() if item is not None}
    _refuse_fields(value, profile)
    left_out = leave_out_others(value) if profile is TOOLS else ()
    left_out += _prepare_items(value.get("input"), profile)
    asked = json_body.check(value, profile.body)
    _refuse_choices(asked)
    offer = _offer(asked)
    offer.check(asked.tools)
    fields = _chat_fields(asked) | offer.chat_fields()
    answer_tool = _add_format(fields, asked, offer)
    # Before the chat request, so that encoding errors name the client's own path.
    echo = make_echo(asked, offer, answer_tool)
    request = make_chat_request(
        fields,
        model=asked.model,
        stream=bool(asked.stream),
        include_usage=True,
        max_tokens=asked.max_output_tokens,
        ignored=(_ignored(value, profile) + _dropped(asked, offer) + left_out)[:MAX_IGNORED],
        session=asked.prompt_cache_key,
    )
    return request, echo


def _refuse_fields(value: Json, profile: Profile) -> None:
    for name, advice in profile.refused.items():
        if name in value:
            raise UnsupportedParameter(name, advice)
    for name in value:
        if name not in profile.body.__struct_fields__ and not profile.has_no_effect(name):
            raise _unknown(name)
    for path, known in profile.nested.items():
        part: Any = value
        for name in path.split("."):
            part = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, dict):
            for name, item in part.items():
                if name not in known and item is not None:
                    raise _unknown(f"{path}.{name}")


def _unknown(path: str) -> InvalidRequest:
    path = path[:100]
    return InvalidRequest(f"Unknown parameter: '{path}'.", param=path, code="unknown_parameter")


def _prepare_items(items: Any, profile: Profile) -> tuple[str, ...]:
    """Refuse unsupported items and parts; return the kinds of those that are left out.

    Items without a type are messages, and get that type here. Parts of a call's output that are
    not text become a short text.
    """
    left_out: dict[str, None] = {}
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if not isinstance(item, dict):
            continue
        if item.get("type") is None:
            # In OpenAI's API, too, the type of both is optional.
            is_reference = "id" in item and "role" not in item and "content" not in item
            item["type"] = "item_reference" if is_reference else "message"
        kind = item["type"]
        _refuse_item(kind, profile, f"input[{index}]")
        content = item.get("content")
        if kind == "message" and content is None and item.get("role") == "assistant":
            # An answer that was cut before its text, from a client that leaves out what is empty.
            item["content"] = ""
        if kind == "message" and isinstance(content, list):
            _refuse_parts(content, f"input[{index}]")
        elif kind in HOSTED_TYPES:
            left_out[f"input.{kind}"] = None
        elif kind in OUTPUT_TYPES:
            found = unsupported_parts.replace(item.get("output"), kind, _OUTPUT_PARTS)
            left_out |= dict.fromkeys(found)
    return tuple(left_out)


def _refuse_item(kind: Any, profile: Profile, path: str) -> None:
    if not isinstance(kind, str) or kind in profile.item_types:
        return
    shown = f"type '{kind[:100]}' is not supported"
    if kind == "item_reference":
        raise UnsupportedParameter(path, f"{shown}: {NO_REFERENCE}")
    if kind in TOOLS.item_types:
        raise UnsupportedParameter(path, f"{shown}: {NO_TOOLS}")
    raise UnsupportedParameter(path, f"{shown}, only {', '.join(profile.item_types)}")


def _refuse_parts(parts: list[Any], path: str) -> None:
    for number, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in _PARTS:
            raise UnsupportedParameter(
                f"{path}.content[{number}]",
                f"type '{kind[:100]}' is not supported, only {', '.join(_PARTS)}",
            )


def _refuse_choices(asked: ResponsesBody | ToolsBody) -> None:
    """Refuse values of known fields that would change the meaning of the answer."""
    if isinstance(asked, ResponsesBody) and asked.tools:
        raise UnsupportedParameter("tools", NO_TOOLS)
    if asked.background:
        raise UnsupportedParameter("background", "responses are not run in the background")
    if asked.truncation == "auto":
        raise UnsupportedParameter("truncation", "prompts that are too long are refused, not cut")
    if asked.top_logprobs and asked.tools:
        raise UnsupportedParameter("top_logprobs", "the model server has no logprobs beside tools")
    for index, name in enumerate(asked.include or ()):
        if name == LOGPROBS and not asked.top_logprobs and isinstance(asked, ToolsBody):
            raise UnsupportedParameter(f"include[{index}]", "set 'top_logprobs' for logprobs")
        if name != ENCRYPTED_THOUGHTS and isinstance(asked, ResponsesBody):
            raise UnsupportedParameter(f"include[{index}]", "there is nothing to include")


def _offer(asked: ResponsesBody | ToolsBody) -> Offer:
    if isinstance(asked, ResponsesBody):
        return Offer([], None, is_parallel=False)
    functions = [tool for tool in asked.tools or () if tool is not None]
    return Offer(functions, asked.tool_choice, asked.parallel_tool_calls)


def _chat_fields(asked: ResponsesBody | ToolsBody) -> Json:
    """Return the upstream fields other than tools and format, as chat completions name them."""
    effort = asked.reasoning.effort if asked.reasoning else None
    fields = {
        "messages": _messages(asked),
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "stop": asked.stop,
        "seed": asked.seed,
        "reasoning_effort": effort,
        # OpenAI treats an absent value as 0.
        "logprobs": True if asked.top_logprobs else None,
        "top_logprobs": asked.top_logprobs or None,
    }
    return {name: item for name, item in fields.items() if item is not None}


def _messages(asked: ResponsesBody | ToolsBody) -> list[Json]:
    if isinstance(asked.input, str):
        messages = [{"role": "user", "content": asked.input}]
    else:
        messages = chat_messages(asked.input)
    if not messages:
        raise InvalidRequest("'input' contains no message.", param="input")
    if asked.instructions is not None:
        messages.insert(0, {"role": "system", "content": asked.instructions})
    return messages


def _add_format(fields: Json, asked: ResponsesBody | ToolsBody, offer: Offer) -> str:
    """Add the answer's format; return the name of the function that stands for it, or ""."""
    form = _form(asked)
    if form is None:
        return ""
    if isinstance(form, JsonSchema):
        check_schemas(form.schema, "text.format")
    if not offer.functions or offer.choice == "none":
        fields["response_format"] = _response_format(form)
        return ""
    if offer.must_call:
        # A format is that of text, which the model may not write this time.
        return ""
    answer = make_answer_tool(form, [tool.name for tool in offer.functions])
    # Upstream compiles all of these together.
    every = [answer, *offer.functions]
    check_schemas([tool.parameters or {} for tool in every], "text.format")
    fields["tools"].append(chat_tool(answer))
    fields["tool_choice"] = "required"
    return answer.name


def _form(asked: ResponsesBody | ToolsBody) -> JsonObject | JsonSchema | None:
    """Return the answer's format, if it is not plain text."""
    form = asked.text.format if asked.text else None
    return None if isinstance(form, PlainText) else form


def _dropped(asked: ResponsesBody | ToolsBody, offer: Offer) -> tuple[str, ...]:
    """Return the fields that have no effect beside tools: the format of a text that is not due."""
    return ("text.format",) if _form(asked) is not None and offer.must_call else ()


def _response_format(form: JsonObject | JsonSchema) -> chat.ResponseFormat:
    if isinstance(form, JsonObject):
        return chat.ResponseFormat("json_object")
    schema = chat.JsonSchema(form.schema, form.name, form.description, form.strict)
    return chat.ResponseFormat("json_schema", schema)


def _ignored(value: Json, profile: Profile) -> tuple[str, ...]:
    nested = tuple(
        f"{outer}.{name}"
        for outer, name in _NESTED_WITHOUT_EFFECT
        if value.get(outer, {}).get(name) is not None
    )
    include = ("include",) if value.get("include") else ()
    return ignored_fields(value, profile.body.__struct_fields__) + nested + include
