"""The simulated model's answers: one entry per token, as the bytes of the delta it causes.

Many tokens cause none: parts of a multi-byte character, the opening of a tool call, the end of
thinking, the end of the answer. They count all the same, as in the real server.
"""

import itertools
import zlib
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from sandbox.llama import stops
from sandbox.llama.faults import Steering
from sandbox.llama.prompt import Body, text_of
from sandbox.llama.schema import instance
from sandbox.llama.script import Step

WORDS = """ the river keeps its own slow time and every morning a small boat leaves the harbour
 under grey light while people on the bank talk about weather bread and letters they will write
 when the long evening comes again"""

# Tokens of a multi-byte character, of which only the last causes a delta.
LONG_CHARACTERS = {"🌍": 3, "水": 2, "é": 2, "語": 3}

TOOL_OPENING_TOKENS = 12
THINKING_TOKENS = 6
JSON_PIECE = 3  # characters per token of structured answers


class Finish(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Delta:
    """The delta of one token; ``rendered`` is the JSON of the ``delta`` object."""

    rendered: bytes
    text: str = ""
    kind: str = "content"  # content, reasoning or tool


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer: one entry per token, None where nothing is sent."""

    tokens: list[Delta | None]
    finish: Finish
    tool_calls: list[dict[str, Any]]
    starts_inside_character: bool
    stop: str = ""  # the stop string that ended it

    @property
    def stop_type(self) -> str:
        """The end's kind, as the real server calls it."""
        if self.stop:
            return "word"
        return "limit" if self.finish is Finish.LENGTH else "eos"

    def text(self, kind: str) -> str:
        """Return the text of all deltas of one kind."""
        return "".join(delta.text for delta in self.tokens if delta and delta.kind == kind)


def _content(text: str) -> Delta:
    return Delta(orjson.dumps({"content": text}), text)


def _thought(text: str) -> Delta:
    return Delta(orjson.dumps({"reasoning_content": text}), text, "reasoning")


def _make_cycle() -> list[Delta | None]:
    """Render the endless text once, so that tokens cost nothing per request."""
    cycle: list[Delta | None] = []
    characters = itertools.cycle(LONG_CHARACTERS.items())
    for position, word in enumerate(WORDS.split()):
        cycle.append(_content(f" {word}"))
        if position % 7 == 6:
            character, tokens = next(characters)
            cycle += [None] * (tokens - 1)
            cycle.append(_content(character))
    return cycle


CYCLE = _make_cycle()
THOUGHTS = [_thought(f" {word}") for word in WORDS.split()]
WORD_STARTS = [
    position for position, delta in enumerate(CYCLE) if delta and delta.text.startswith(" ")
]


def answer(
    body: Body, steering: Steering, limit: int, default_tokens: int, step: Step | None = None
) -> Answer:
    """Return the answer to a validated request, cut at ``limit`` tokens.

    ``step`` is the step of a script, if one applies.
    """
    tokens: list[Delta | None] = []
    thinking = steering.think
    if thinking is None:
        wanted = (body.get("chat_template_kwargs") or {}).get("enable_thinking") is True
        thinking = THINKING_TOKENS if wanted else 0
    if thinking:
        tokens += itertools.islice(itertools.cycle(THOUGHTS), thinking)
        tokens.append(None)  # </think>
    calls = _calls(body, steering, step)
    if step is not None:
        tokens += [_content(piece) for piece in _pieces(step.say)]
    elif calls:
        pass
    elif (body.get("response_format") or {}).get("type", "text") != "text":
        tokens += _structured(body["response_format"])
    else:
        length = steering.tokens if steering.tokens is not None else default_tokens
        tokens += _plain(body, max(0, length - 1 - len(tokens)), steering.first == "utf8")
    for index, call in enumerate(calls):
        tokens += _call_tokens(index, call)
    tokens.append(None)  # end of sequence
    finish = Finish.TOOL_CALLS if calls else Finish.STOP
    if len(tokens) > limit:
        tokens, finish = tokens[:limit], Finish.LENGTH
    stop = ""
    if (given := stops.of(body)) and not calls:
        tokens, stop = _stopped(tokens, given)
        finish = Finish.STOP if stop else finish
    _repeat_beginning(tokens, body)
    inside = not thinking and not calls and steering.first == "utf8"
    return Answer(tokens, finish, calls, inside, stop)


def _stopped(tokens: list[Delta | None], given: list[str]) -> tuple[list[Delta | None], str]:
    """Return the tokens up to the first stop string, and that string; "" if none occurs."""
    pieces = [stops.Piece(token.kind, token.text) if token else None for token in tokens]
    shown, stop = stops.cut(pieces, given)
    deltas = {"content": _content, "reasoning": _thought}
    return [deltas[piece.kind](piece.text) if piece else None for piece in shown], stop


def _plain(body: Body, length: int, long_character_first: bool) -> list[Delta | None]:
    if long_character_first:
        start = CYCLE.index(None)
    else:
        # Different prompts get different answers; the same prompt always gets the same one.
        seed = zlib.crc32(repr(body.get("messages", body.get("prompt")))[-200:].encode())
        start = WORD_STARTS[seed % len(WORD_STARTS)]
    repeats = (start + length) // len(CYCLE) + 1
    return (CYCLE * repeats)[start : start + length]


def _repeat_beginning(tokens: list[Delta | None], body: Body) -> None:
    """Repeat a trailing assistant message (a prefill) at the start of the answer."""
    last = (body.get("messages") or [{}])[-1]
    if last.get("role") != "assistant":
        return
    for place, delta in enumerate(tokens):
        if delta is not None and delta.kind == "content":
            tokens[place] = _content(text_of(last.get("content")) + delta.text)
            return


def _structured(response_format: dict[str, Any]) -> list[Delta | None]:
    schema = (response_format.get("json_schema") or {}).get("schema")
    schema = schema or response_format.get("schema")
    value = instance(schema) if schema else {"answer": "yes"}
    return [_content(piece) for piece in _pieces(orjson.dumps(value).decode())]


def _pieces(text: str) -> list[str]:
    return [text[start : start + JSON_PIECE] for start in range(0, len(text), JSON_PIECE)]


def _number_of_calls(body: Body, steering: Steering) -> int:
    if not body.get("tools"):
        return 0
    if steering.tool is not None:
        return steering.tool
    # Like the real server, treat a named function as "auto".
    return 1 if body.get("tool_choice") == "required" else 0


def _calls(body: Body, steering: Steering, step: Step | None) -> list[dict[str, Any]]:
    if step is None:
        return [_call(body["tools"], index) for index in range(_number_of_calls(body, steering))]
    # A script may repeat a call, and clients expect other ids in later answers.
    first = 100 * len(body["messages"])
    return [_called(call.name, call.text(), first + i) for i, call in enumerate(step.calls)]


def _call(tools: list[dict[str, Any]], index: int) -> dict[str, Any]:
    function = tools[index % len(tools)]["function"]
    arguments = instance(function.get("parameters") or {"type": "object"})
    return _called(function.get("name", ""), orjson.dumps(arguments).decode(), index)


def _called(name: str, arguments: str, seed: int) -> dict[str, Any]:
    identity = f"{zlib.crc32(f'{seed}{name}{arguments}'.encode()):08x}" * 4
    function = {"name": name, "arguments": arguments}
    return {"type": "function", "function": function, "id": identity}


def _call_tokens(index: int, call: dict[str, Any]) -> list[Delta | None]:
    arguments = call["function"]["arguments"]
    function: dict[str, Any] = {"name": call["function"]["name"], "arguments": arguments[:1]}
    head = {"index": index, "id": call["id"], "type": "function", "function": function}
    tokens: list[Delta | None] = [None] * TOOL_OPENING_TOKENS
    tokens.append(_tool(head, arguments[:1]))
    for piece in _pieces(arguments[1:]):
        tokens.append(_tool({"index": index, "function": {"arguments": piece}}, piece))
    return tokens


def _tool(call: dict[str, Any], arguments: str) -> Delta:
    return Delta(orjson.dumps({"tool_calls": [call]}), arguments, "tool")
