"""The answer as one `message` object, and the state that both forms of an answer share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from promptly.gateway.dialects import Chunk

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}

# Thinking is not signed here, but clients drop a thinking block whose signature is empty.
SIGNATURE = "unsigned"


class MessageState:
    """State of the message as a whole, from the chunks so far.

    `prefill` is the start of the answer if the client gave one: upstream repeats it first, which
    Anthropic's clients do not expect. `stop_sequences` are those of the client.
    """

    def __init__(self, prefill: str = "", stop_sequences: Sequence[str] = ()) -> None:
        self._prefill = prefill
        self._stop_sequences = stop_sequences
        self._stopped_by: str | None = None
        self._repeated = ""
        self._id = ""
        self._model = ""
        self._finish_reason: str | None = None
        self._timings: dict[str, int] = {}
        self._usage: dict[str, Any] | None = None

    def read(self, chunk: Chunk) -> dict[str, Any]:
        """Store a chunk's counts and finish reason; return its delta, which may be empty."""
        timings = chunk.get("timings")
        if timings is not None:
            self._timings = timings
        choices = chunk.get("choices")
        if not choices:
            self._usage = chunk.get("usage") or self._usage
            return {}
        if not self._id:
            self._id = "msg_" + chunk.get("id", "").removeprefix("chatcmpl-")
            self._model = chunk.get("model", "")
        self._finish_reason = choices[0].get("finish_reason") or self._finish_reason
        if "__verbose" in chunk:
            self._read_end(chunk["__verbose"])
        delta: dict[str, Any] = choices[0].get("delta") or {}
        if self._prefill and delta.get("content"):
            delta = {**delta, "content": self._without_prefill(delta["content"])}
        return delta

    def _read_end(self, report: Any) -> None:
        if isinstance(report, dict) and report.get("stop_type") == "word":
            stop = report.get("stopping_word")
            # A chat template may have stop strings of its own, which are a natural end.
            if stop in self._stop_sequences:
                self._stopped_by = stop

    def _without_prefill(self, text: str) -> str:
        self._repeated += text
        if self._prefill.startswith(self._repeated):
            return ""
        prefill, self._prefill = self._prefill, ""
        return self._repeated.removeprefix(prefill)

    def usage(self) -> dict[str, int]:
        """Return the tokens so far; the three input counts add up to the charged prompt."""
        cached = self._timings.get("cache_n", 0)
        if self._usage is not None:
            prompt, output = self._usage["prompt_tokens"], self._usage["completion_tokens"]
            cached = (self._usage.get("prompt_tokens_details") or {}).get("cached_tokens", cached)
        else:
            prompt = cached + self._timings.get("prompt_n", 0)
            output = self._timings.get("predicted_n", 0)
        return {
            "input_tokens": prompt - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": output,
        }

    def stop_reason(self) -> str | None:
        """Return why the answer has ended; None while it has not."""
        if self._finish_reason is None:
            return None
        if self.stop_sequence() is not None:
            return "stop_sequence"
        return STOP_REASONS.get(self._finish_reason, "end_turn")

    def stop_sequence(self) -> str | None:
        """Return the client's stop sequence that ended the answer, if one did."""
        return self._stopped_by if self._finish_reason == "stop" else None

    def message(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        """Build the `message` object with this content."""
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": self.stop_reason(),
            "stop_sequence": self.stop_sequence(),
            "usage": self.usage(),
        }


@dataclass(slots=True)
class Block:
    """One block of content and the pieces of its text; `start` is the empty block that begins it.

    `key` is its type or, for a tool call, the call's index upstream.
    """

    key: str | int
    start: dict[str, Any]
    pieces: list[str] = field(default_factory=list)

    def build(self) -> dict[str, Any]:
        """Build the whole block."""
        text = "".join(self.pieces)
        match self.start["type"]:
            case "tool_use":
                return {**self.start, "input": _arguments(text)}
            case "thinking":
                return {**self.start, "thinking": text, "signature": SIGNATURE}
            case _:
                return {**self.start, "text": text}


def start_of_call(call: dict[str, Any], position: int) -> dict[str, Any]:
    """Build the empty block of a tool call; `position` is the number of blocks before it."""
    return {
        "type": "tool_use",
        "id": call.get("id") or f"toolu_{position}",
        "name": (call.get("function") or {}).get("name") or "",
        "input": {},
    }


def _arguments(text: str) -> dict[str, Any]:
    """Return a call's arguments; empty if cut off, as a part of them would be a different call."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


class MessageAnswer(MessageState):
    """Collects a chat's deltas into the blocks of one message."""

    def __init__(self, prefill: str = "", stop_sequences: Sequence[str] = ()) -> None:
        super().__init__(prefill, stop_sequences)
        self._blocks: list[Block] = []

    def add(self, chunk: Chunk) -> bytes:
        """Add a chunk's delta to its block."""
        delta = self.read(chunk)
        if thought := delta.get("reasoning_content"):
            self._block("thinking", {"type": "thinking"}).pieces.append(thought)
        if text := delta.get("content"):
            self._block("text", {"type": "text"}).pieces.append(text)
        for call in delta.get("tool_calls") or ():
            start = start_of_call(call, len(self._blocks))
            arguments = (call.get("function") or {}).get("arguments") or ""
            self._block(call.get("index", 0), start).pieces.append(arguments)
        return b""

    def _block(self, key: str | int, start: dict[str, Any]) -> Block:
        """Return the last block, or a new one if that has a different key."""
        if not self._blocks or self._blocks[-1].key != key:
            self._blocks.append(Block(key, start))
        return self._blocks[-1]

    def build(self) -> dict[str, Any]:
        """Build the `message` object."""
        return self.message([block.build() for block in self._blocks])
