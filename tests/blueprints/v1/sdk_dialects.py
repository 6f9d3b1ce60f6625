"""Conversations in each API: requests, and answers put together by the SDKs' own code.

A conversation is a list of the API's own turns, which clients send back with each request.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from openai import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from sandbox.llama.faults import DIRECTIVE

Json = dict[str, Any]

# Arguments with characters of several bytes, quotes and backslashes.
PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "city": {"const": 'Zürich 🌍 "x" \\ \n'},
        "days": {"type": "array", "items": {"type": "integer"}, "minItems": 3},
        "deep": {"type": "object", "properties": {"x": {"type": "boolean"}}},
    },
}
IMAGE_DATA = "data:image/png;base64,iVBORw0KGgo="

_ANTHROPIC_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_RESPONSES_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@dataclass(frozen=True)
class Answered:
    """The part of an answer that a client keeps: its turns, its text, the ids of its tool calls."""

    turns: list[Json]
    text: str
    calls: list[str]


NOTHING = Answered([], "", [])


@dataclass(frozen=True)
class Dialect:
    """One API. `read` puts an answer together from its JSON or the events that arrived."""

    path: str
    # The body for a conversation.
    body: Callable[[list[Json]], Json]
    # The turns in which a user speaks, after the results of these calls.
    say: Callable[[str, list[str], Any], list[Json]]
    read_whole: Callable[[Json, "Dump"], Answered]
    read_stream: Callable[[list[Json], "Dump"], Answered]
    limit: str = "max_tokens"
    count_path: str | None = None
    # The RESPONSES_PROFILE that it needs.
    profile: str = "text"


Dump = Callable[[BaseModel], Json]


def full(model: BaseModel) -> Json:
    return model.model_dump(mode="json", warnings=False)


def without_nulls(model: BaseModel) -> Json:
    return model.model_dump(mode="json", warnings=False, exclude_none=True)


def without_empty(model: BaseModel) -> Json:
    """Leave out every empty text and list at any depth, as careless clients do."""
    found: Json = _without_empty(without_nulls(model))
    return found


def _without_empty(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_empty(item) for name, item in value.items() if item not in ("", [])}
    return value


DUMPS: tuple[Dump, ...] = (full, without_nulls, without_empty)


def events(data: bytes) -> list[Json]:
    """Return a stream's JSON events up to its end or an error."""
    found: list[Json] = []
    for line in data.decode().split("\n"):
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            if "error" in event and event.get("type", "error") == "error":
                break
            found.append(event)
    return found


# Chat completions.


def chat_body(turns: list[Json]) -> Json:
    function = {"name": "look_up", "parameters": PARAMETERS}
    return {"messages": turns, "tools": [{"type": "function", "function": function}]}


def chat_say(text: str, calls: list[str], result: Any) -> list[Json]:
    if isinstance(result, list):
        result = [part if part else _CHAT_IMAGE for part in result]
    results = [{"role": "tool", "tool_call_id": call, "content": result} for call in calls]
    return [*results, {"role": "user", "content": text}]


_CHAT_IMAGE = {"type": "image_url", "image_url": {"url": IMAGE_DATA}}


def chat_whole(answer: Json, dump: Dump) -> Answered:
    return _chat_message(ChatCompletion.model_validate(answer).choices[0].message, dump)


def chat_stream(found: list[Json], dump: Dump) -> Answered:
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    for event in found:
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
    if not found:
        return NOTHING
    return _chat_message(state.current_completion_snapshot.choices[0].message, dump)


def _chat_message(message: Any, dump: Dump) -> Answered:
    calls = [call.id for call in message.tool_calls or ()]
    return Answered([dump(message)], message.content or "", calls)


# Messages.


def messages_body(turns: list[Json]) -> Json:
    tool = {"name": "look_up", "input_schema": PARAMETERS}
    return {"messages": turns, "max_tokens": 300, "tools": [tool]}


def messages_say(text: str, calls: list[str], result: Any) -> list[Json]:
    if isinstance(result, list):
        result = [part if part else _MESSAGES_IMAGE for part in result]
    results = [{"type": "tool_result", "tool_use_id": call, "content": result} for call in calls]
    return [{"role": "user", "content": [*results, {"type": "text", "text": text}]}]


_MESSAGES_IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
}


def messages_whole(answer: Json, dump: Dump) -> Answered:
    return _message(Message.model_validate(answer), dump)


def messages_stream(found: list[Json], dump: Dump) -> Answered:
    snapshot: Any = None
    inputs: dict[int, bytes] = {}
    for event in found:
        if event["type"] in ("message_stop", "content_block_stop"):
            continue
        parsed = _ANTHROPIC_EVENT.validate_python(event)
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=inputs)
    return NOTHING if snapshot is None else _message(snapshot, dump)


def _message(message: Any, dump: Dump) -> Answered:
    dumped = dump(message)
    turn: Json = {name: dumped[name] for name in ("role", "content") if name in dumped}
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [block.id for block in message.content if block.type == "tool_use"]
    return Answered([turn], text, calls)


# Responses, for text.


def responses_body(turns: list[Json]) -> Json:
    return {"input": turns}


def responses_say(text: str, _calls: list[str], _result: Any) -> list[Json]:
    return [{"role": "user", "content": [{"type": "input_text", "text": text}]}]


def responses_whole(answer: Json, dump: Dump) -> Answered:
    return _output(Response.model_validate(answer).output, dump)


def responses_stream(found: list[Json], dump: Dump) -> Answered:
    """Return the last event's output or, after an end without it, the items as far as they came."""
    if found and found[-1]["type"] in ("response.completed", "response.incomplete"):
        return responses_whole(found[-1]["response"], dump)
    state = _ResponseState(input_tools=omit, text_format=omit)
    for event in found:
        state.handle_event(_RESPONSES_EVENT.validate_python(event))
    return _output(state.snapshot.output, dump) if found else NOTHING


class _ResponseState(ResponseStreamState[Any]):
    """Shows what the SDK keeps to itself until the response is complete."""

    snapshot: Any = None

    def accumulate_event(self, event: Any) -> Any:
        self.snapshot = super().accumulate_event(event)
        return self.snapshot


def _output(items: list[Any], dump: Dump) -> Answered:
    text = "".join(_texts(items))
    calls = [item.call_id for item in items if item.type == "function_call"]
    return Answered([{"type": item.type, **dump(item)} for item in items], text, calls)


def _texts(items: list[Any]) -> Iterator[str]:
    for item in items:
        if item.type == "message":
            yield from (part.text for part in item.content)


# Responses with tools.


def tools_body(turns: list[Json]) -> Json:
    return {"input": turns, "tools": [_LOOK_UP]}


def formatted_body(turns: list[Json]) -> Json:
    """Ask for an answer in a format, which the simulator gives with every second call."""
    form = {"type": "json_schema", "name": "city", "schema": PARAMETERS}
    return {**tools_body(turns), "text": {"format": form}}


_LOOK_UP = {"type": "function", "name": "look_up", "parameters": PARAMETERS}


def tools_say(text: str, calls: list[str], result: Any) -> list[Json]:
    if isinstance(result, list):
        result = [
            {"type": "input_text", "text": part["text"]} if part else _RESPONSES_IMAGE
            for part in result
        ]
    outputs = [
        {"type": "function_call_output", "call_id": call, "output": result} for call in calls
    ]
    return [*outputs, *responses_say(text, calls, result)]


_RESPONSES_IMAGE = {"type": "input_image", "image_url": IMAGE_DATA}


# Completions, as one growing text.


def text_body(turns: list[Json]) -> Json:
    """Return the whole text as a prompt, with the directives of its last turn only."""
    *before, last = [turn["text"] for turn in turns]
    prompt = "".join(DIRECTIVE.sub("", text) for text in before) + last
    return {"prompt": prompt, "max_tokens": 100}


def text_say(text: str, _calls: list[str], _result: Any) -> list[Json]:
    return [{"text": text}]


def text_whole(answer: Json, _dump: Dump) -> Answered:
    text = Completion.model_validate(answer).choices[0].text
    return Answered([{"text": text}], text, [])


def text_stream(found: list[Json], _dump: Dump) -> Answered:
    # The SDK's type allows no chunk without a finish reason, and the SDK itself checks none.
    text = "".join(event["choices"][0]["text"] for event in found if event["choices"])
    return Answered([{"text": text}], text, [])


def _responses_with_tools(body: Callable[[list[Json]], Json]) -> Dialect:
    return Dialect(
        "/v1/responses",
        body,
        tools_say,
        responses_whole,
        responses_stream,
        limit="max_output_tokens",
        count_path="/v1/responses/input_tokens",
        profile="tools",
    )


DIALECTS = {
    "chat": Dialect(
        "/v1/chat/completions",
        chat_body,
        chat_say,
        chat_whole,
        chat_stream,
        count_path="/v1/chat/completions/input_tokens",
    ),
    "messages": Dialect(
        "/v1/messages",
        messages_body,
        messages_say,
        messages_whole,
        messages_stream,
        count_path="/v1/messages/count_tokens",
    ),
    "responses": Dialect(
        "/v1/responses",
        responses_body,
        responses_say,
        responses_whole,
        responses_stream,
        limit="max_output_tokens",
        count_path="/v1/responses/input_tokens",
    ),
    "responses with tools": _responses_with_tools(tools_body),
    "responses in a format": _responses_with_tools(formatted_body),
    "completions": Dialect("/v1/completions", text_body, text_say, text_whole, text_stream),
}
