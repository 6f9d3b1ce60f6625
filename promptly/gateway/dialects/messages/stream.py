"""The answer as Anthropic's events, built from each chunk as it arrives.

message_start, then for every block of content content_block_start, its deltas, content_block_stop;
at the end message_delta with the stop reason and the usage, and message_stop.
https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from collections.abc import Sequence
from typing import Any

import orjson

from promptly.errors import PromptlyError
from promptly.gateway.dialects import Chunk
from promptly.gateway.dialects.messages.answer import (
    SIGNATURE,
    Block,
    MessageState,
    arguments_of,
    start_of_call,
)
from promptly.gateway.dialects.messages.errors import error_body

_MESSAGE_START = b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n'
_BLOCK_START = (
    b"event: content_block_start\n"
    b'data: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
)
# The start of a delta; its text follows as a JSON string, then _DELTA_END.
_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":%b:'
)
_DELTA_END = b"}}\n\n"
_BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_MESSAGE_DELTA = b'event: message_delta\ndata: {"type":"message_delta","delta":%b,"usage":%b}\n\n'
_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_ERROR = b"event: error\ndata: %b\n\n"

_NOT_ENDED = {"stop_reason": None, "stop_sequence": None}

# The type of a block's deltas, and the name of their text field.
_TEXT = b'"text_delta","text"'
_THINKING = b'"thinking_delta","thinking"'
_INPUT = b'"input_json_delta","partial_json"'
_SIGNED = b'"signature_delta","signature"'


class MessageStream(MessageState):
    """Builds events, the first with the first piece of content, when the prompt's size is known."""

    def __init__(self, prefill: str = "", stop_sequences: Sequence[str] = ()) -> None:
        super().__init__(prefill, stop_sequences)
        self._index = -1
        # The key of the open block, and the start of each of its deltas.
        self._open: str | int | None = None
        self._head = b""
        # Tool calls by their index upstream, and those whose blocks could not begin yet.
        self._calls: dict[int, Block] = {}
        self._waiting: list[Block] = []
        self._started = False
        self._concluded = False

    def sink(self, chunk: Chunk) -> bytes:
        """Return the events of one chunk."""
        delta = self.read(chunk)
        out = b""
        if thought := delta.get("reasoning_content"):
            if self._open != "thinking":
                start = {"type": "thinking", "thinking": "", "signature": ""}
                out += self._begin("thinking", start, _THINKING)
            out += self._delta(thought)
        if text := delta.get("content"):
            if self._open != "text":
                out += self._begin("text", {"type": "text", "text": ""}, _TEXT)
            out += self._delta(text)
        for call in delta.get("tool_calls") or ():
            out += self._call(call)
        if self._usage is not None:
            out += self._conclude()
        elif self._finish_reason is not None:
            out += self._close()
        return out

    def end(self) -> bytes:
        """Return the events that end every complete stream."""
        return self._conclude() + _MESSAGE_STOP

    def failed(self, problem: PromptlyError) -> bytes:
        """Return the error as a last event."""
        return _ERROR % orjson.dumps(error_body(problem))

    def _call(self, call: Chunk) -> bytes:
        """Return the events of a part of a tool call.

        Blocks follow one another, but the parts of parallel calls may alternate: a call that starts
        while an earlier one lacks arguments, be that open or waiting, waits for the open one's end.
        """
        index, arguments = call.get("index", 0), arguments_of(call)
        block = self._calls.get(index)
        out = b""
        if block is None:
            start = start_of_call(call, self._index + 1 + len(self._waiting))
            block = self._calls[index] = Block(index, start)
            opened = self._calls.get(self._open) if isinstance(self._open, int) else None
            if opened is None or _are_complete(opened, *self._waiting):
                out = self._begin(index, start, _INPUT)
            else:
                self._waiting.append(block)
        block.pieces.append(arguments)
        return out + self._delta(arguments) if arguments and self._open == index else out

    def _delta(self, text: str) -> bytes:
        return self._head + orjson.dumps(text) + _DELTA_END

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        return _MESSAGE_START % orjson.dumps({**self.message([]), **_NOT_ENDED})

    def _begin(self, key: str | int, start: dict[str, Any], kind: bytes) -> bytes:
        out = self._start() + self._close()
        self._index += 1
        self._open = key
        self._head = _DELTA % (self._index, kind)
        return out + _BLOCK_START % (self._index, orjson.dumps(start))

    def _close(self) -> bytes:
        """Return the events that end the open block, and those of the calls that waited for it."""
        if self._open is None:
            return b""
        out = self._stop()
        waiting, self._waiting = self._waiting, []
        for block in waiting:
            out += self._begin(block.key, block.start, _INPUT)
            out += self._delta("".join(block.pieces)) + self._stop()
        return out

    def _stop(self) -> bytes:
        out = b""
        if self._open == "thinking":
            out = _DELTA % (self._index, _SIGNED) + orjson.dumps(SIGNATURE) + _DELTA_END
        self._open = None
        return out + _BLOCK_STOP % self._index

    def _conclude(self) -> bytes:
        """Return the stop reason and the final usage, once."""
        if self._concluded:
            return b""
        self._concluded = True
        delta = {"stop_reason": self.stop_reason(), "stop_sequence": self.stop_sequence()}
        return (
            self._start()
            + self._close()
            + _MESSAGE_DELTA % (orjson.dumps(delta), orjson.dumps(self.usage()))
        )


def _are_complete(*calls: Block) -> bool:
    return all(call.is_complete_call() for call in calls)
