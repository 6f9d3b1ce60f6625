"""Upstream's streams for several prompts, combined into one answer."""

import json
from typing import Any

import pytest

from promptly.errors import UpstreamError
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.dialects.completions.answer import TextAnswer, TextStream

NAME = "cmpl-1"


def chunk(text: str = "", reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a chunk as upstream sends it."""
    choice = {"text": text, "index": 0, "logprobs": fields.pop("logprobs", None)}
    return {
        "choices": [{**choice, "finish_reason": reason}],
        "created": 5,
        "model": "m",
        "system_fingerprint": "b1",
        "object": "text_completion",
        "id": "chatcmpl-x",
        **fields,
    }


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


TWO = [
    chunk(" a", timings={"predicted_n": 1}),
    chunk("", timings={"predicted_n": 2}),
    chunk(" b"),
    chunk("", "stop", usage=usage(4, 3, 1)),
    chunk(" c"),
    chunk("", "length", usage=usage(6, 1)),
]


def streamed(*chunks: dict[str, Any], include_usage: bool = False) -> list[Any]:
    answer = TextStream(NAME, logprobs=None, include_usage=include_usage)
    out = b"".join(answer.sink(each) for each in chunks) + answer.end()
    events = [event.removeprefix("data: ") for event in out.decode().split("\n\n") if event]
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def built(*chunks: dict[str, Any], logprobs: int | None = None) -> dict[str, Any]:
    answer = TextAnswer(NAME, logprobs=logprobs)
    assert b"".join(answer.add(each) for each in chunks) == b""
    return answer.build()


def test_one_object_for_two_prompts() -> None:
    answer = built(*TWO)
    assert answer.pop("created") > 1_700_000_000
    assert answer == {
        "id": NAME,
        "object": "text_completion",
        "model": "m",
        "choices": [
            {"text": " a b", "index": 0, "logprobs": None, "finish_reason": "stop"},
            {"text": " c", "index": 1, "logprobs": None, "finish_reason": "length"},
        ],
        "usage": usage(10, 4, 1),
    }


@pytest.mark.parametrize("include_usage", [True, False])
def test_one_stream_for_two_prompts(include_usage: bool) -> None:
    events = streamed(*TWO, include_usage=include_usage)
    assert {event["id"] for event in events} == {NAME}
    assert all(set(event) <= {*events[0], "usage"} for event in events)
    reported = [usage_event["usage"] for usage_event in events if "usage" in usage_event]
    assert reported == ([usage(10, 4, 1)] if include_usage else [])
    choices = [event["choices"][0] for event in events if event["choices"]]
    assert [(one["index"], one["text"], one["finish_reason"]) for one in choices] == [
        (0, " a", None),
        (0, " b", None),
        (0, "", "stop"),
        (1, " c", None),
        (1, "", "length"),
    ]


def test_a_prompt_that_is_never_run_has_an_empty_choice() -> None:
    answer = TextAnswer(NAME, logprobs=None)
    for each in TWO[:4]:
        answer.add(each)
    ChunkReader(include_usage=False, sink=answer.add).closing_chunks()
    made = answer.build()
    assert made["choices"][1] == {
        "text": "",
        "index": 1,
        "logprobs": None,
        "finish_reason": "length",
    }
    assert made["usage"] == usage(4, 3, 1)


def test_a_stream_that_fails_ends_with_the_error() -> None:
    out = TextStream(NAME, logprobs=None, include_usage=True).failed(UpstreamError())
    assert json.loads(out.removeprefix(b"data: "))["error"]["code"] == "upstream_error"


def entry(token: str, logprob: float, *others: tuple[str, float]) -> dict[str, Any]:
    return {
        "token": token,
        "bytes": list(token.encode()),
        "logprob": logprob,
        "top_logprobs": [entry(*other) for other in others],
    }


def test_logprobs_become_four_lists() -> None:
    first = [entry(" é", -0.5, (" é", -0.5), ("x", -1.0), ("y", -2.0))]
    second = [entry("z", -3.0, ("a", -0.1), ("b", -0.2), ("z", -3.0))]
    answer = built(
        chunk(" é", logprobs={"content": first}),
        chunk("z", logprobs={"content": second}),
        chunk("", "stop", usage=usage(1, 2)),
        chunk("z", logprobs={"content": second}),
        chunk("", "stop", usage=usage(1, 1)),
        logprobs=2,
    )
    assert answer["choices"][0]["logprobs"] == {
        "tokens": [" é", "z"],
        "token_logprobs": [-0.5, -3.0],
        "top_logprobs": [{" é": -0.5, "x": -1.0}, {"a": -0.1, "b": -0.2, "z": -3.0}],
        "text_offset": [0, 2],
    }
    assert answer["choices"][1]["logprobs"]["text_offset"] == [0]


def test_logprobs_of_parts_of_a_character() -> None:
    parts = [{**entry("?", -1.0), "bytes": [byte]} for byte in "語".encode()]
    answer = built(
        chunk("語", logprobs={"content": [*parts, entry("a", -1.0)]}),
        chunk("", "stop", usage=usage(1, 4)),
        logprobs=0,
    )
    found = answer["choices"][0]["logprobs"]
    assert found["tokens"] == ["bytes:\\xe8", "bytes:\\xaa", "bytes:\\x9e", "a"]
    assert found["text_offset"] == [0, 0, 0, 1]
    assert found["top_logprobs"] == [{token: -1.0} for token in found["tokens"]]


def test_logprobs_that_were_not_requested_are_left_out() -> None:
    answer = built(chunk("a", "stop", logprobs={"content": [entry("a", -1.0)]}, usage=usage(1, 1)))
    assert answer["choices"][0]["logprobs"] is None
