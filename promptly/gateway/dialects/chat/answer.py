"""Chat completions in the client's format: streamed, or as one object."""

from typing import Any

import orjson

from promptly.errors import PromptlyError
from promptly.gateway import sse
from promptly.gateway.dialects import Chunk, Sink


class ChatStream:
    """The streamed answer: upstream's own events, and the one that ends them.

    `sink` is None, as upstream's events need no change, unless the client asked for logprobs
    `without_alternatives`.
    """

    def __init__(self, *, include_usage: bool = False, without_alternatives: bool = False) -> None:
        self.sink: Sink | None = self._cut if without_alternatives else None
        self._include_usage = include_usage

    def _cut(self, chunk: Chunk) -> bytes:
        """Return the event of a chunk, with logprobs of the generated tokens only."""
        for name in ("timings", "__verbose"):
            chunk.pop(name, None)
        _drop_alternatives(chunk)
        if not chunk["choices"] and not self._include_usage:
            return b""
        return sse.event(orjson.dumps(chunk))

    def end(self) -> bytes:
        """Return the event that ends every complete stream."""
        return sse.DONE

    def failed(self, problem: PromptlyError) -> bytes:
        """Return the error as a last event."""
        return sse.event(orjson.dumps(problem.body()))


class ChatAnswer:
    """Collects the deltas of one chat stream, as `ChunkReader` passes them on."""

    def __init__(self, *, without_alternatives: bool = False) -> None:
        self._without_alternatives = without_alternatives
        self._head: dict[str, Any] = {}
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[Any] = []
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None

    def add(self, chunk: dict[str, Any]) -> bytes:
        """Add a chunk's delta."""
        if self._without_alternatives:
            _drop_alternatives(chunk)
        if not self._head:
            self._head = {
                name: chunk[name]
                for name in ("created", "model", "system_fingerprint", "id")
                if name in chunk
            }
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices", ()):
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            logprobs = choice.get("logprobs")
            if logprobs:
                self._logprobs.extend(logprobs.get("content") or ())
            delta = choice.get("delta") or {}
            if delta.get("content"):
                self._content.append(delta["content"])
            if delta.get("reasoning_content"):
                self._reasoning.append(delta["reasoning_content"])
            for call in delta.get("tool_calls") or ():
                self._add_tool_call(call)
        return b""

    def _add_tool_call(self, delta: dict[str, Any]) -> None:
        empty = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        call = self._tool_calls.setdefault(delta.get("index", 0), empty)
        call["id"] = delta.get("id") or call["id"]
        function = delta.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""

    def build(self) -> dict[str, Any]:
        """Build the `chat.completion` object."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._content)}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._tool_calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [call for _, call in sorted(self._tool_calls.items())]
        choice: dict[str, Any] = {
            "index": 0,
            "message": message,
            "logprobs": {"content": self._logprobs} if self._logprobs else None,
            "finish_reason": self._finish_reason,
        }
        return {
            "object": "chat.completion",
            **self._head,
            "choices": [choice],
            "usage": self._usage,
        }


def _drop_alternatives(chunk: Chunk) -> None:
    """Leave only the generated tokens in a chunk's logprobs."""
    for choice in chunk.get("choices", ()):
        for entry in (choice.get("logprobs") or {}).get("content") or ():
            entry["top_logprobs"] = []
