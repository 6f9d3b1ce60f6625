"""Upstream's chunks, and the responses that promptly makes of them in both forms."""

import json
import uuid
from dataclasses import replace
from typing import Any

import orjson

from promptly.errors import PromptlyError
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.dialects.responses.answer import ResponsesAnswer
from promptly.gateway.dialects.responses.echo import Echo
from promptly.gateway.dialects.responses.request import parse_responses
from promptly.gateway.dialects.responses.stream import ResponsesStream
from tests.gateway.dialects.responses.sdk import check_response, check_sequence, parse

Json = dict[str, Any]

REQUEST_ID = uuid.UUID("0193a1b2-c3d4-7000-8000-00000000002a")


def echo(first_call_only: bool = False, **fields: Any) -> Echo:
    made = parse_responses(orjson.dumps({"input": "hello", **fields}))[1]
    return replace(made, first_call_only=first_call_only)


def streamed(
    *blocks: bytes, limit: int | None = None, problem: PromptlyError | None = None, **fields: Any
) -> bytes:
    """Return the bytes that a client gets for upstream's blocks."""
    answer = ResponsesStream(REQUEST_ID, "loaded", echo(**fields))
    reader = ChunkReader(include_usage=True, sink=answer.sink)
    reader.limit = limit
    out = b""
    for block in blocks:
        out += reader.read(block)
        if reader.limit_reached:
            out += reader.closing_chunks()
            break
    return out + (answer.end() if problem is None else answer.failed(problem))


def whole(data: bytes, **fields: Any) -> Json:
    """Return the response object, decoded from its JSON."""
    answer = ResponsesAnswer(REQUEST_ID, "loaded", echo(**fields))
    reader = ChunkReader(include_usage=True, sink=answer.add)
    assert reader.read(data) == b""
    built: Json = json.loads(orjson.dumps(answer.build()))
    check_response(built)
    return built


def last(data: bytes) -> Json:
    """Check a whole stream and return its last response."""
    return check_sequence(parse(data))


def timeless(response: Json) -> Json:
    return {**response, "completed_at": None}


def chunk(
    delta: Json | None = None, finish: str | None = None, predicted: int = 0, **fields: Any
) -> bytes:
    choice = {"finish_reason": finish, "index": 0, "delta": delta or {}, **fields}
    made: Json = {"choices": [choice], "id": "1", "created": 2, "model": "m"}
    if predicted:
        made["timings"] = {"cache_n": 2, "prompt_n": 3, "predicted_n": predicted}
    return b"data: %b\n\n" % orjson.dumps(made)


def think(text: str, predicted: int) -> bytes:
    return chunk({"reasoning_content": text}, predicted=predicted)


def say(text: str, predicted: int, **fields: Any) -> bytes:
    return chunk({"content": text}, predicted=predicted, **fields)


ROLE = chunk({"role": "assistant", "content": None})


def call(
    index: int, arguments: str, name: str | None = None, call_id: str | None = None
) -> dict[str, Any]:
    """Build upstream's delta of a tool call; the first one of a call has its name."""
    made: Json = {"index": index, "function": {"arguments": arguments}}
    if name is not None:
        made["function"]["name"] = name
        made |= {"id": call_id if call_id is not None else f"id{index}", "type": "function"}
    return made


def calling(*calls: Json) -> bytes:
    return chunk({"tool_calls": list(calls)})
