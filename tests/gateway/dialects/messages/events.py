"""Parse Anthropic's stream events and accumulate them like its SDKs."""

import json
from typing import Any

Json = dict[str, Any]


def events(data: bytes) -> list[Json]:
    """Return a complete stream's events without comments; each must be named after its type."""
    assert data == b"" or data.endswith(b"\n\n")
    found = []
    for part in data.decode().split("\n\n"):
        if not part or part.startswith(":"):
            continue
        name, text = part.split("\n")
        event = json.loads(text.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def message(found: list[Json]) -> Json:
    """Accumulate the events of a successful stream into a message, checking their order."""
    start, *middle, delta, stop = found
    assert start["type"] == "message_start"
    assert start["message"]["stop_reason"] is None
    assert start["message"]["content"] == []
    assert stop == {"type": "message_stop"}
    assert delta["type"] == "message_delta"
    content: list[Json] = []
    is_open = False
    for event in middle:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(content)
                content.append(event["content_block"])
                is_open = True
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(content) - 1
                _add(content[-1], event["delta"])
            case "content_block_stop":
                assert is_open
                assert event["index"] == len(content) - 1
                is_open = False
    assert not is_open
    for block in content:
        if "json" in block:
            block["input"] = _parsed(block.pop("json"))
    return {**start["message"], "content": content, **delta["delta"], "usage": delta["usage"]}


def _add(block: Json, delta: Json) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            assert block["signature"] == ""
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "input_json_delta":
            assert block["input"] == {}
            block["json"] = block.get("json", "") + delta["partial_json"]
        case other:
            raise AssertionError(other)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {}
