"""Function calls in responses: items, events, and what interrupts them."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptly.errors import UpstreamError
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.dialects.responses.stream import ResponsesStream
from tests.gateway.dialects.responses.answering import (
    REQUEST_ID,
    ROLE,
    call,
    calling,
    chunk,
    echo,
    last,
    say,
    streamed,
    think,
    timeless,
    whole,
)
from tests.gateway.dialects.responses.sdk import (
    accumulated,
    calls_of,
    check_sequence,
    parse,
    text_of,
    thoughts_of,
)
from tests.gateway.recordings import events, recording

Json = dict[str, Any]

DIGITS = REQUEST_ID.hex
END = chunk({}, "tool_calls")
CUT = chunk({}, "length")


def both(data: bytes, **fields: Any) -> Json:
    """Return the response, which must be the same in both forms."""
    response = last(streamed(data, **fields))
    assert timeless(whole(data, **fields)) == timeless(response)
    return response


def kinds(response: Json) -> list[str]:
    return [item["type"] for item in response["output"]]


def names(data: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for event in parse(data)]


def test_recorded_calls() -> None:
    data = recording("tool_call")
    response = both(data)
    assert [item["id"] for item in response["output"]] == [f"fc_{DIGITS}_{n}" for n in range(3)]
    sent = [
        part
        for event in events(data)[:-1]
        for choice in event["choices"]
        for part in choice["delta"].get("tool_calls", ())
    ]
    for number, item in enumerate(response["output"]):
        first, *more = [part for part in sent if part["index"] == number]
        assert (item["call_id"], item["name"]) == (first["id"], first["function"]["name"])
        texts = [part["function"]["arguments"] for part in [first, *more]]
        assert item["arguments"] == "".join(texts)
        # None of the calls waits for the one before it.
        sizes = [len(event["delta"]) for event in arguments_of(data, item["id"])]
        assert sizes == [len(text) for text in texts]


def arguments_of(data: bytes, item_id: str) -> list[Json]:
    """Return the events with a call's arguments."""
    name = "response.function_call_arguments.delta"
    found = [event for event in parse(streamed(data)) if event["type"] == name]
    return [event for event in found if event["item_id"] == item_id]


def test_the_events_of_a_call() -> None:
    data = ROLE + calling(call(0, "{", "f", "abc")) + calling(call(0, '"a":1}')) + END
    made = streamed(data)
    assert names(made) == [
        "created",
        "in_progress",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    item = {
        "id": f"fc_{DIGITS}_0",
        "type": "function_call",
        "status": "completed",
        "arguments": '{"a":1}',
        "call_id": "abc",
        "name": "f",
    }
    assert both(data)["output"] == [item]
    place = {"item_id": item["id"], "output_index": 0}
    added, first, _, done, ended = parse(made)[2:7]
    assert added["item"] == {**item, "status": "in_progress", "arguments": ""}
    assert first == {**first, **place, "delta": "{"}
    assert done == {**done, **place, "arguments": '{"a":1}'}
    assert ended["item"] == item


def test_reasoning_text_calls_and_text_are_items_in_their_order() -> None:
    data = ROLE + think("hm", 1) + say("let me", 2) + say(" see", 3)
    data += calling(call(0, "{}", "f")) + calling(call(1, "{", "g")) + calling(call(1, "}"))
    data += say("done", 9) + END
    response = both(data)
    assert kinds(response) == ["reasoning", "message", "function_call", "function_call", "message"]
    assert calls_of(response) == [("f", "{}", "completed"), ("g", "{}", "completed")]
    assert (thoughts_of(response), text_of(response)) == ("hm", "let me seedone")
    assert [item["call_id"] for item in response["output"][2:4]] == ["id0", "id1"]


def test_a_chunk_with_reasoning_text_and_calls() -> None:
    calls = [call(0, "{}", "f"), call(1, "{}", "g")]
    data = chunk({"reasoning_content": "a", "content": "b", "tool_calls": calls}) + END
    assert kinds(both(data)) == ["reasoning", "message", "function_call", "function_call"]


@pytest.mark.parametrize("before", [b"", think("hm", 1)], ids=["nothing", "reasoning"])
def test_an_answer_of_calls_alone_has_no_message(before: bytes) -> None:
    response = both(ROLE + before + calling(call(0, "{}", "f")) + END)
    assert kinds(response)[-1] == "function_call"
    assert "message" not in kinds(response)
    assert response["status"] == "completed"


def test_reasoning_after_a_call_needs_no_message() -> None:
    response = both(ROLE + calling(call(0, "{}", "f")) + think("hm", 1) + END)
    assert kinds(response) == ["function_call", "reasoning"]


def test_interleaved_calls_come_one_after_the_other() -> None:
    data = ROLE + calling(call(0, "{", "f"), call(1, "{", "g")) + calling(call(1, '"b":'))
    data += calling(call(0, '"a":1'), call(1, "2")) + calling(call(1, "}"), call(0, "}")) + END
    assert calls_of(both(data)) == [
        ("f", '{"a":1}', "completed"),
        ("g", '{"b":2}', "completed"),
    ]


def test_a_call_streams_on_as_soon_as_the_one_before_it_is_complete() -> None:
    answer = ResponsesStream(REQUEST_ID, "loaded", echo())
    read = ChunkReader(include_usage=True, sink=answer.sink).read
    out = read(ROLE + calling(call(0, '{"a":', "f")))
    assert read(calling(call(1, "{", "g")) + say("text", 1)) == b""
    more = read(calling(call(0, "1}")))
    # The second call has begun, and text waits for its end in turn.
    assert names(more)[-2:] == ["output_item.added", "function_call_arguments.delta"]
    more += read(calling(call(1, "}")))
    assert names(more)[-1] == "output_text.delta"
    response = last(out + more + read(say("!", 2) + END) + answer.end())
    assert kinds(response) == ["function_call", "function_call", "message"]
    assert text_of(response) == "text!"


def test_text_between_the_arguments_of_a_call_waits_with_its_logprobs() -> None:
    entry = {"token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": []}
    logprobs = {"content": [entry]}
    data = ROLE + calling(call(0, "{", "f")) + say("a", 1, logprobs=logprobs) + think("b", 2)
    data += say("a", 3, logprobs=logprobs) + calling(call(0, "}")) + END
    response = both(data)
    assert kinds(response) == ["function_call", "message", "reasoning", "message"]
    assert calls_of(response) == [("f", "{}", "completed")]
    assert response["output"][1]["content"][0]["logprobs"] == [entry]


def test_arguments_that_never_become_complete_lose_nothing() -> None:
    data = ROLE + calling(call(0, "", "f")) + calling(call(1, "nonsense", "g")) + say("text", 1)
    response = both(data + END)
    assert calls_of(response) == [("f", "", "completed"), ("g", "nonsense", "completed")]
    assert text_of(response) == "text"


def test_additions_to_a_call_that_is_closed_are_dropped() -> None:
    data = ROLE + calling(call(0, "{}", "f")) + calling(call(1, "{}", "g"))
    response = both(data + calling(call(0, " ")) + calling(call(0, "", "f", "other")) + END)
    assert calls_of(response) == [("f", "{}", "completed"), ("g", "{}", "completed")]


def test_further_calls_are_dropped_if_only_the_first_is_wanted() -> None:
    data = ROLE + calling(call(0, "{", "f")) + calling(call(1, "{}", "g")) + calling(call(0, "}"))
    data += calling(call(2, "{}", "h")) + say("text", 1) + END
    response = both(data, first_call_only=True)
    assert calls_of(response) == [("f", "{}", "completed")]
    assert text_of(response) == "text"


@pytest.mark.parametrize("call_id", ["", None])
def test_a_call_without_an_id_gets_one(call_id: str | None) -> None:
    made = call(0, "{}", "f")
    made["id"] = call_id
    [item] = both(ROLE + calling(made) + END)["output"]
    assert item["call_id"] == f"call_{DIGITS}_0"


def test_calls_with_the_same_id_get_different_ones() -> None:
    data = ROLE + calling(call(0, "{}", "f", "same")) + calling(call(1, "{}", "g", "same"))
    response = both(data + END)
    assert [item["call_id"] for item in response["output"]] == ["same", f"call_{DIGITS}_1"]
    accumulated(streamed(data + END), [])


def test_a_call_without_a_name_is_left_out() -> None:
    response = both(ROLE + calling(call(0, "{}")) + END)
    assert kinds(response) == ["message"]
    assert response["status"] == "completed"


CALLED = ROLE + say("see", 1) + calling(call(0, "{}", "f")) + calling(call(1, '{"b', "g"))
INTERRUPTED = [("f", "{}", "completed"), ("g", '{"b', "incomplete")]


def test_a_limit_within_the_arguments() -> None:
    response = both(CALLED + CUT)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert calls_of(response) == INTERRUPTED


def test_a_balance_that_ends_within_the_arguments() -> None:
    counted = chunk({"tool_calls": [call(1, '":', None)]}, predicted=7)
    response = last(streamed(CALLED + counted + calling(call(1, "1}")) + END, limit=7))
    assert calls_of(response)[-1] == ("g", '{"b":', "incomplete")
    assert response["usage"]["output_tokens"] == 7


def test_a_failure_within_the_arguments() -> None:
    response = last(streamed(CALLED, problem=UpstreamError()))
    assert response["status"] == "failed"
    assert calls_of(response) == INTERRUPTED


def test_a_limit_ends_the_calls_that_wait_as_well() -> None:
    data = ROLE + calling(call(0, "{", "f")) + calling(call(1, "{}", "g"))
    response = both(data + CUT)
    assert calls_of(response) == [("f", "{", "incomplete"), ("g", "{}", "incomplete")]
    assert calls_of(last(streamed(data, problem=UpstreamError()))) == calls_of(response)


@pytest.mark.parametrize(
    "bad",
    [
        {"content": "lost", "tool_calls": 5},
        {"content": "lost", "tool_calls": [call(0, "{}", "f"), 5]},
        {"content": "lost", "tool_calls": [{"index": [0], "function": {"name": "f"}}]},
        {"content": "lost", "tool_calls": [{"index": 0, "function": {"name": 5}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}]},
        {
            "tool_calls": [
                {"index": 0, "id": {"a": 1}, "function": {"name": "f", "arguments": "{}"}}
            ]
        },
        {"reasoning_content": "lost", "content": 5},
        {"reasoning_content": ["lost"], "content": "lost"},
    ],
    ids=json.dumps,
)
def test_a_malformed_chunk_leaves_the_events_in_order(bad: Json) -> None:
    answer = ResponsesStream(REQUEST_ID, "loaded", echo())
    reader = ChunkReader(include_usage=True, sink=answer.sink)
    out = reader.read(ROLE + say("a", 1) + chunk(bad))
    assert reader.error is not None
    response = last(out + answer.failed(UpstreamError()))
    assert (kinds(response), text_of(response)) == (["message"], "a")


TOOL = {
    "type": "function",
    "name": "f",
    "description": None,
    "strict": True,
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}


def test_the_sdk_puts_the_same_calls_together() -> None:
    data = ROLE + think("hm", 1) + say("see", 2) + calling(call(0, '{"a":', "f"))
    data += calling(call(1, '{"a":2}', "f")) + calling(call(0, "1}")) + END
    made = streamed(data)
    fired, response = accumulated(made, [TOOL])
    found = [item for item in response.output if item.type == "function_call"]
    assert [item.parsed_arguments for item in found] == [{"a": 1}, {"a": 2}]
    assert [item.to_dict() for item in found] == [
        {**item, "parsed_arguments": json.loads(item["arguments"])}
        for item in last(made)["output"][2:]
    ]
    # The helper's own account of the arguments, from the deltas.
    snapshots = {
        event.output_index: event.snapshot
        for event in fired
        if event.type == "response.function_call_arguments.delta"
    }
    assert snapshots == {2: '{"a":1}', 3: '{"a":2}'}


ARGUMENTS = st.dictionaries(
    st.text(max_size=5), st.integers() | st.text(max_size=8) | st.booleans(), max_size=3
).map(json.dumps)
# Text, reasoning, or the arguments of a call.
TURNS = st.lists(
    st.tuples(st.sampled_from(["content", "reasoning_content"]), st.text(min_size=1, max_size=12))
    | st.tuples(st.just("call"), ARGUMENTS),
    max_size=5,
)


@given(turns=TURNS, sizes=st.lists(st.integers(1, 6), min_size=1), cut=st.booleans())
def test_any_split_into_deltas_gives_the_same_response(
    turns: list[tuple[str, str]], sizes: list[int], cut: bool
) -> None:
    def deltas(step: Iterator[int]) -> bytes:
        out, number = ROLE, -1
        for kind, text in turns:
            number += kind == "call"
            if kind == "call":
                out += calling(call(number, "", "f"))
            rest = text
            while rest:
                size = next(step)
                piece, rest = rest[:size], rest[size:]
                out += calling(call(number, piece)) if kind == "call" else chunk({kind: piece})
        return out + (CUT if cut else END)

    response = both(deltas(itertools.cycle(sizes)))
    assert timeless(response) == timeless(whole(deltas(itertools.cycle([1000]))))
    assert [arguments for _, arguments, _ in calls_of(response)] == [
        text for kind, text in turns if kind == "call"
    ]
    assert text_of(response) == "".join(text for kind, text in turns if kind == "content")


# Deltas of several calls and of text in any order; arguments need not become JSON.
STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["{", "}", "{}", '"a":', "1", " ", ""]))
    | st.tuples(st.sampled_from(["content", "reasoning_content"]), st.sampled_from("ab")),
    max_size=14,
)


@given(steps=STEPS, end=st.sampled_from(["stop", "length", "error"]), first=st.booleans())
def test_any_order_of_deltas_gives_valid_events(
    steps: list[tuple[int | str, str]], end: str, first: bool
) -> None:
    data = ROLE
    named = set()
    for kind, piece in steps:
        if isinstance(kind, int):
            data += calling(call(kind, piece, None if kind in named else f"f{kind}"))
            named.add(kind)
        else:
            data += chunk({kind: piece})
    if end == "error":
        response = check_sequence(
            parse(streamed(data, problem=UpstreamError(), first_call_only=first))
        )
    else:
        response = both(data + chunk({}, end), first_call_only=first)
    order = list(dict.fromkeys(f"f{kind}" for kind, _ in steps if isinstance(kind, int)))
    assert [name for name, _, _ in calls_of(response)] == (order[:1] if first else order)
    said = "".join(piece for kind, piece in steps if kind == "content")
    assert text_of(response) == said
