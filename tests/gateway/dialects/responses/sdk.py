"""Validation of responses and their events against the SDK's types, without unknown fields."""

import json
import typing
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx2
import pydantic
from openai import OpenAI
from openai.types.responses import (
    Response,
    ResponseStreamEvent,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
)

Json = dict[str, Any]
Take = Callable[[str], Json]
TakeDeltas = Callable[[str], list[Json]]

_UNION = typing.get_args(typing.get_args(ResponseStreamEvent)[0])
EVENTS: dict[str, type[pydantic.BaseModel]] = {
    typing.get_args(kind.model_fields["type"].annotation)[0]: kind for kind in _UNION
}
# The SDK's type of a delta's logprobs lacks the bytes, which OpenAI and we send.
_EXTRA = {"bytes"}


def check_response(response: Json) -> Response:
    """Return the response as the SDK's object; fail on a wrong type or an unknown field."""
    made = Response.model_validate(response, strict=True)
    _nothing_unknown(made)
    return made


def check_event(event: Json) -> pydantic.BaseModel:
    """Return the event as the SDK's object; fail on a wrong type or an unknown field."""
    made = EVENTS[event["type"]].model_validate(event, strict=True)
    _nothing_unknown(made)
    return made


def _nothing_unknown(value: Any, loose: bool = False) -> None:
    if isinstance(value, pydantic.BaseModel):
        loose = loose or isinstance(value, ResponseTextDeltaEvent | ResponseTextDoneEvent)
        unknown = set(value.model_extra or ()) - (_EXTRA if loose else set())
        assert not unknown, (type(value).__name__, unknown)
        for name in type(value).model_fields:
            _nothing_unknown(getattr(value, name), loose)
    elif isinstance(value, list):
        for item in value:
            _nothing_unknown(item, loose)


def parse(data: bytes) -> list[Json]:
    """Return a stream's events without comments; each must be named after its type."""
    text = data.decode()
    assert not text or text.endswith("\n\n")
    found = []
    for part in text.split("\n\n"):
        if part and not part.startswith(":"):
            name, line = part.split("\n")
            event = json.loads(line.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            found.append(event)
    return found


def check_sequence(events: list[Json]) -> Json:
    """Check all events and their order; return the response of the last one.

    The order of https://platform.openai.com/docs/api-reference/responses-streaming.
    """
    for event in events:
        check_event(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    created, in_progress, *middle, last = events
    for event, name in ((created, "response.created"), (in_progress, "response.in_progress")):
        assert event["type"] == name
        assert (event["response"]["output"], event["response"]["usage"]) == ([], None)
    assert created["response"] == in_progress["response"]
    final: Json = last["response"]
    assert last["type"] == f"response.{final['status']}"
    steady = {"id", "object", "created_at", "model", "metadata", "instructions"}
    assert {name: final[name] for name in steady} == {
        name: created["response"][name] for name in steady
    }
    check_response(final)
    assert _items(middle) == final["output"]
    assert len({item["id"] for item in final["output"]}) == len(final["output"])
    return final


def _items(events: list[Json]) -> list[Json]:
    """Accumulate the events into items; each must be complete before the next starts."""
    found: list[Json] = []
    rest = deque(events)
    while rest:
        found.append(_item(rest, len(found)))
    return found


def _item(rest: deque[Json], index: int) -> Json:
    added: Json = rest[0]["item"]
    assert added["status"] == "in_progress"
    content = {} if added["type"] == "function_call" else {"content_index": 0}

    def take(name: str) -> Json:
        event = rest.popleft()
        assert event["type"] == name
        assert event["output_index"] == index
        if name not in ("response.output_item.added", "response.output_item.done"):
            place = {"item_id", "content_index"} & set(event)
            assert {name: event[name] for name in place} == {"item_id": added["id"], **content}
        return event

    def take_deltas(name: str) -> list[Json]:
        found = []
        while rest[0]["type"] == name:
            found.append(take(name))
            assert found[-1]["delta"]
        return found

    take("response.output_item.added")
    filled = _call(added, take, take_deltas) if not content else _part(added, take, take_deltas)
    item: Json = take("response.output_item.done")["item"]
    assert item == {**added, "status": item["status"], **filled}
    assert item["status"] in ("completed", "incomplete")
    return item


def _call(added: Json, take: Take, take_deltas: TakeDeltas) -> Json:
    """Take the events of a call's arguments; return the field that they fill."""
    assert added["arguments"] == ""
    deltas = take_deltas("response.function_call_arguments.delta")
    arguments = "".join(event["delta"] for event in deltas)
    assert take("response.function_call_arguments.done")["arguments"] == arguments
    return {"arguments": arguments}


def _part(added: Json, take: Take, take_deltas: TakeDeltas) -> Json:
    """Take the events of an item's part of content; return the field that they fill."""
    assert added["content"] == []
    kind = "reasoning_text" if added["type"] == "reasoning" else "output_text"
    assert take("response.content_part.added")["part"]["text"] == ""
    deltas = take_deltas(f"response.{kind}.delta")
    text = "".join(event["delta"] for event in deltas)
    logprobs = [entry for event in deltas for entry in event.get("logprobs", ())]
    done = take(f"response.{kind}.done")
    part = take("response.content_part.done")["part"]
    assert done["text"] == part["text"] == text
    assert done.get("logprobs", []) == part.get("logprobs", []) == logprobs
    return {"content": [part]}


def text_of(response: Json) -> str:
    """Join the text of all messages."""
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


def thoughts_of(response: Json) -> str:
    """Join the text of all reasoning items."""
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "reasoning"
        for part in item["content"]
    )


def calls_of(response: Json) -> list[tuple[str, str, str]]:
    """Return the name, the arguments and the status of each function call."""
    return [
        (item["name"], item["arguments"], item["status"])
        for item in response["output"]
        if item["type"] == "function_call"
    ]


def accumulated(data: bytes, tools: list[Any]) -> tuple[list[Any], Any]:
    """Return what the SDK's stream helper makes of a completed stream: events and response."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    with (
        OpenAI(api_key="k", base_url="http://promptly/v1", http_client=http_client) as client,
        client.responses.stream(model="m", input="hello", tools=tools) as stream,
    ):
        return list(stream), stream.get_final_response()
