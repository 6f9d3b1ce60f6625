"""The simulator obeys `stop` as the real server does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.llama import SimulatedLlama, stops
from sandbox.llama.stops import Piece
from tests.sandbox.llama.wire import Json, content, post, sim, stream

ASKED: Json = {"verbose": True, "response_fields": ["stop_type", "stopping_word"]}
COUNTED: Json = {"stream_options": {"include_usage": True}, "timings_per_token": True}

Texts = st.lists(st.text(alphabet="abc", max_size=3), min_size=1, max_size=12)
Stops = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=3)


@given(texts=Texts, given_stops=Stops)
def test_the_text_before_the_first_stop_string_is_shown(
    texts: list[str], given_stops: list[str]
) -> None:
    pieces: list[Piece | None] = [Piece("content", text) if text else None for text in texts]
    shown, stop = stops.cut(pieces, given_stops)
    said = "".join(piece.text for piece in shown if piece)
    whole = "".join(texts)
    assert not any(each in said for each in given_stops)
    if stop:
        assert whole.startswith(said + stop)
        assert len(shown) <= len(pieces)
    else:
        assert (said, len(shown)) == (whole, len(pieces))


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["a", "b", "x"], ["a", None, "bx"]),
        (["a", "b", "c", "x"], ["a", None, None]),
        (["ab", "ab", "cx"], [None, None, "aba"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_a_possible_beginning_is_withheld(texts: list[str], shown: list[str | None]) -> None:
    found, _ = stops.cut([Piece("content", text) for text in texts], ["bc"])
    assert [piece and piece.text for piece in found] == shown


def ends(events: list[Any]) -> list[Json]:
    return [event["__verbose"] for event in events if "__verbose" in event]


@pytest.mark.parametrize("kind", ["", "think=4 "])
def test_an_answer_that_meets_a_stop_string(llama: SimulatedLlama, kind: str) -> None:
    free = content(stream(llama.url, messages=sim(f"{kind}tokens=60")))
    word = free.split()[5]
    body: Json = {"messages": sim(f"{kind}tokens=60"), "stop": [word, "never"]}
    events = stream(llama.url, **body, **ASKED, **COUNTED)
    said = content(events)
    assert said == free[: free.find(word)]
    [finish] = [event for event in events[:-2] if event["choices"][0]["finish_reason"]]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert finish["__verbose"] == {"stop_type": "word", "stopping_word": word}
    assert len(ends(events)) == 1
    assert events[-2]["usage"]["completion_tokens"] < 60
    _, whole = post(llama.url, **body, **ASKED)
    assert whole["choices"][0]["message"]["content"] == said
    assert whole["__verbose"] == finish["__verbose"]


def test_other_ends(llama: SimulatedLlama) -> None:
    body: Json = {"messages": sim("tokens=9"), "stop": ["never"], **ASKED}
    natural = {"stop_type": "eos", "stopping_word": ""}
    assert ends(stream(llama.url, **body)) == [natural]
    limited = stream(llama.url, **body, max_tokens=3)
    assert ends(limited) == [{"stop_type": "limit", "stopping_word": ""}]
    assert ends(stream(llama.url, messages=sim("tokens=9"), stop="never")) == []


def test_texts_obey_it_too(llama: SimulatedLlama) -> None:
    _, free = post(llama.url, "/v1/completions", prompt="once [[sim tokens=40]]")
    text = free["choices"][0]["text"]
    word = text.split()[4]
    _, cut = post(llama.url, "/v1/completions", prompt="once [[sim tokens=40]]", stop=word)
    choice = cut["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (text[: text.find(word)], "stop")
