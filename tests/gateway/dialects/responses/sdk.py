"""Validation of responses and their events against the SDK's types, without unknown fields."""

import json
import typing
from collections import deque
from typing import Any

import pydantic
from openai.types.responses import (
    Response,
    ResponseStreamEvent,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
)

Json = dict[str, Any]

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
    def take(name: str) -> Json:
        event = rest.popleft()
        assert event["type"] == name
        assert event["output_index"] == index
        if name not in ("response.output_item.added", "response.output_item.done"):
            assert (event["item_id"], event["content_index"]) == (added["id"], 0)
        return event

    added: Json = rest[0]["item"]
    take("response.output_item.added")
    assert (added["status"], added["content"]) == ("in_progress", [])
    kind = "reasoning_text" if added["type"] == "reasoning" else "output_text"
    assert take("response.content_part.added")["part"]["text"] == ""
    deltas = []
    while rest[0]["type"] == f"response.{kind}.delta":
        deltas.append(take(f"response.{kind}.delta"))
        assert deltas[-1]["delta"]
    text = "".join(event["delta"] for event in deltas)
    logprobs = [entry for event in deltas for entry in event.get("logprobs", ())]
    done = take(f"response.{kind}.done")
    part = take("response.content_part.done")["part"]
    assert done["text"] == part["text"] == text
    assert done.get("logprobs", []) == part.get("logprobs", []) == logprobs
    item: Json = take("response.output_item.done")["item"]
    assert item == {**added, "status": item["status"], "content": [part]}
    assert item["status"] in ("completed", "incomplete")
    return item


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
