"""Both forms of an answer, from a real server's recordings and from synthetic streams."""

from typing import Any

import orjson
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from promptly.errors import ServiceUnavailable
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.dialects.messages.answer import MessageAnswer
from promptly.gateway.dialects.messages.stream import MessageStream
from tests.gateway.dialects.messages.events import events, message
from tests.gateway.recordings import NAMES, counts, recording
from tests.gateway.recordings import events as chunks
from tests.gateway.test_chunks import Splits, blocks

Json = dict[str, Any]
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def streamed(*data: bytes, prefill: str = "", stop_sequences: tuple[str, ...] = ()) -> bytes:
    """Return the events translated from upstream's blocks."""
    stream = MessageStream(prefill, stop_sequences)
    reader = ChunkReader(include_usage=True, sink=stream.sink)
    return b"".join(reader.read(block) for block in data) + stream.end()


def whole(data: bytes, prefill: str = "", stop_sequences: tuple[str, ...] = ()) -> Json:
    answer = MessageAnswer(prefill, stop_sequences)
    ChunkReader(include_usage=True, sink=answer.add).read(data)
    return answer.build()


def text_of(name: str, field: str) -> str:
    """Join all deltas of one kind in a recording."""
    found = [chunk for chunk in chunks(recording(name)) if chunk != "[DONE]" and chunk["choices"]]
    return "".join(chunk["choices"][0]["delta"].get(field) or "" for chunk in found)


def made_up(*choices: Json, usage: Json | None = None) -> bytes:
    """Build a stream of these choices; each raises the completion count by one."""
    found: list[Json] = [
        {
            "id": "chatcmpl-1",
            "model": "m",
            "choices": [{"index": 0, **choice}],
            **({"__verbose": choice.pop("__verbose")} if "__verbose" in choice else {}),
            "timings": {"cache_n": 3, "prompt_n": 7, "predicted_n": number},
        }
        for number, choice in enumerate(choices, start=1)
    ]
    if usage is not None:
        found.append({"choices": [], "usage": usage})
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in found)


def calls(*found: Json) -> Json:
    return {"delta": {"tool_calls": list(found)}}


def call(index: int, arguments: str, **head: str) -> Json:
    name = {"name": head.pop("name")} if "name" in head else {}
    return {"index": index, "function": {**name, "arguments": arguments}, **head}


@pytest.mark.parametrize("name", NAMES)
def test_recorded_streams(name: str) -> None:
    answer = whole(recording(name))
    first = next(chunk for chunk in chunks(recording(name)) if "prompt_progress" not in chunk)
    assert answer["id"] == "msg_" + first["id"].removeprefix("chatcmpl-")
    assert answer["model"] == first["model"]
    by_type = {block["type"]: block for block in answer["content"]}
    assert by_type.get("text", {"text": ""})["text"] == text_of(name, "content")
    thoughts = by_type.get("thinking", {"thinking": "", "signature": "x"})
    assert thoughts["thinking"] == text_of(name, "reasoning_content")
    assert thoughts["signature"]
    usage = answer["usage"]
    prompt, completion = counts(name)
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == prompt
    assert usage["output_tokens"] == completion
    reason = next(
        chunk["choices"][0]["finish_reason"]
        for chunk in chunks(recording(name))
        if chunk != "[DONE]" and chunk["choices"] and chunk["choices"][0]["finish_reason"]
    )
    assert answer["stop_reason"] == STOP_REASONS[reason]
    Message.model_validate(answer, strict=True)


@given(name=st.sampled_from(NAMES), cuts=Splits)
def test_any_split_gives_the_same_events(name: str, cuts: list[int]) -> None:
    assert streamed(*blocks(recording(name), cuts)) == streamed(recording(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_events_add_up_to_the_whole_answer(name: str) -> None:
    found = events(streamed(recording(name)))
    for event in found:
        EVENT.validate_python(event, strict=True)
    assert message(found) == whole(recording(name))
    start = found[0]["message"]["usage"]
    final = found[-2]["usage"]
    # The prompt's size is known from the first event on.
    assert {**start, "output_tokens": 0} == {**final, "output_tokens": 0}
    assert start["output_tokens"] <= final["output_tokens"]


def test_thoughts_text_and_calls_are_blocks_in_their_order() -> None:
    data = made_up(
        {"delta": {"role": "assistant", "content": None}},
        {"delta": {"reasoning_content": "h"}},
        {"delta": {"reasoning_content": "m"}},
        {"delta": {"content": "a"}},
        {"delta": {"content": '"\n\U0001f30d'}},
        calls(call(0, "{", id="x", name="f"), call(0, '"a":1}')),
        calls(call(1, "", id="y", name="g")),
        {"delta": {}, "finish_reason": "tool_calls"},
        usage={"prompt_tokens": 10, "completion_tokens": 9},
    )
    assert whole(data) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "unsigned"},
            {"type": "text", "text": 'a"\n\U0001f30d'},
            {"type": "tool_use", "id": "x", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "y", "name": "g", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 7,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 3,
            "output_tokens": 9,
        },
    }
    assert message(events(streamed(data))) == whole(data)


def test_calls_whose_parts_alternate() -> None:
    data = made_up(
        calls(call(0, "{", id="x", name="f")),
        calls(call(1, '{"b"', id="y", name="g"), call(0, '"a":')),
        calls(call(2, "{}", id="z", name="f"), call(1, ":2}")),
        calls(call(0, "1}")),
        {"delta": {"content": "done"}},
        {"delta": {}, "finish_reason": "tool_calls"},
    )
    found = whole(data)
    assert [block.get("input", block.get("text")) for block in found["content"]] == [
        {"a": 1},
        {"b": 2},
        {},
        "done",
    ]
    assert [block.get("id") for block in found["content"]] == ["x", "y", "z", None]
    assert message(events(streamed(data))) == found


def test_a_third_call_does_not_cut_the_second() -> None:
    data = made_up(
        calls(call(0, "{", id="x", name="f"), call(1, '{"b"', id="y", name="g")),
        calls(call(0, "}"), call(2, "{}", id="z", name="f"), call(1, ":2}")),
        {"delta": {}, "finish_reason": "tool_calls"},
    )
    found = whole(data)
    assert [block["input"] for block in found["content"]] == [{}, {"b": 2}, {}]
    assert message(events(streamed(data))) == found


def test_a_call_is_streamed_at_once_when_the_one_before_it_is_complete() -> None:
    stream = MessageStream()
    reader = ChunkReader(include_usage=True, sink=stream.sink)
    reader.read(made_up(calls(call(0, "{}", id="x", name="f"))))
    found = reader.read(made_up(calls(call(1, "{", id="y", name="g"))))
    kinds = [event["type"] for event in events(found)]
    assert kinds == ["content_block_stop", "content_block_start", "content_block_delta"]


def test_an_answer_without_a_word() -> None:
    data = made_up(
        {"delta": {"role": "assistant", "content": None}}, {"delta": {}, "finish_reason": "stop"}
    )
    found = events(streamed(data))
    assert [event["type"] for event in found] == ["message_start", "message_delta", "message_stop"]
    assert message(found) == whole(data)
    assert whole(data)["content"] == []
    assert whole(data)["stop_reason"] == "end_turn"
    assert whole(data)["usage"]["output_tokens"] == 2


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["Well then I", " know"], " I know"),
        (["Well", " then", " I know"], " I know"),
        (["We", "ll then I", " know"], " I know"),
        (["Well then"], ""),
        # A server that does not repeat the client's text.
        ([" I", " know"], " I know"),
        (["Well", " I know"], "Well I know"),
    ],
)
def test_the_beginning_that_the_client_gave_is_not_repeated(pieces: list[str], text: str) -> None:
    data = made_up(
        *({"delta": {"content": piece}} for piece in pieces),
        {"delta": {}, "finish_reason": "stop"},
    )
    found = whole(data, prefill="Well then")
    assert found["content"] == ([{"type": "text", "text": text}] if text else [])
    assert message(events(streamed(data, prefill="Well then"))) == found


@pytest.mark.parametrize("words", [["a word"], []])
@pytest.mark.parametrize(
    ("reason", "end", "stop_reason", "stop_sequence"),
    [
        ("stop", {"stop_type": "word", "stopping_word": "END"}, "stop_sequence", "END"),
        ("stop", {"stop_type": "word", "stopping_word": "<|eom|>"}, "end_turn", None),
        ("stop", {"stop_type": "eos", "stopping_word": ""}, "end_turn", None),
        ("length", {"stop_type": "limit", "stopping_word": ""}, "max_tokens", None),
        ("tool_calls", {"stop_type": "word", "stopping_word": "END"}, "tool_use", None),
        ("stop", {"stop_type": "word", "stopping_word": ["END"]}, "end_turn", None),
        ("stop", "word", "end_turn", None),
        ("stop", {}, "end_turn", None),
    ],
)
def test_the_stop_sequence_that_ended_the_answer(
    words: list[str], reason: str, end: Any, stop_reason: str, stop_sequence: str | None
) -> None:
    """The template's own stop strings are a natural end; a broken report means nothing."""
    deltas = [{"delta": {"content": word}} for word in words]
    data = made_up(*deltas, {"delta": {}, "finish_reason": reason, "__verbose": end})
    found = whole(data, stop_sequences=("OTHER", "END"))
    assert (found["stop_reason"], found["stop_sequence"]) == (stop_reason, stop_sequence)
    assert message(events(streamed(data, stop_sequences=("OTHER", "END")))) == found
    assert b"verbose" not in streamed(data, stop_sequences=("OTHER", "END"))


@pytest.mark.parametrize("arguments", ["", '{"a', '{"a":1', "[1]", "nonsense", '{"a":1}}'])
def test_arguments_other_than_an_object_make_an_empty_input(arguments: str) -> None:
    data = made_up(
        calls(call(0, arguments, id="x", name="f")), {"delta": {}, "finish_reason": "length"}
    )
    [block] = whole(data)["content"]
    assert block == {"type": "tool_use", "id": "x", "name": "f", "input": {}}
    assert whole(data)["stop_reason"] == "max_tokens"
    # Streamed, the client gets the arguments as generated.
    deltas = [e["delta"] for e in events(streamed(data)) if e["type"] == "content_block_delta"]
    assert "".join(delta["partial_json"] for delta in deltas) == arguments


@pytest.mark.parametrize("limit", [1, 5, 23])
def test_an_end_at_the_balance(limit: int) -> None:
    stream, answer = MessageStream(), MessageAnswer()
    out = b""
    for sink in (stream.sink, answer.add):
        reader = ChunkReader(include_usage=True, sink=sink)
        reader.limit = limit
        out += reader.read(recording("plain")) + reader.closing_chunks()
    found = message(events(out + stream.end()))
    assert found == answer.build()
    assert found["stop_reason"] == "max_tokens"
    assert found["usage"]["output_tokens"] == limit
    prompt, _ = counts("plain")
    assert found["usage"]["input_tokens"] + found["usage"]["cache_read_input_tokens"] == prompt


def test_an_error_ends_the_stream() -> None:
    [event] = events(MessageStream().failed(ServiceUnavailable("Away.")))
    assert event == {
        "type": "error",
        "error": {
            "type": "overloaded_error",
            "message": "Away.",
            "details": {"error_code": "service_unavailable"},
        },
    }
