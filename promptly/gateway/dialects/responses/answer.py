"""The response object, while it grows and when it is complete.

Complete texts and logprobs are kept as JSON, since a stream repeats them four times.
"""

import uuid
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import orjson

from promptly.clock import utcnow
from promptly.gateway.dialects import Chunk
from promptly.gateway.dialects.responses.echo import Echo
from promptly.request_ids import started_at_ms

Json = dict[str, Any]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputItem(ABC):
    """One item of the output: reasoning or the message, with one part of content."""

    prefix: ClassVar[str]
    part_type: ClassVar[str]

    def __init__(self, digits: str, index: int) -> None:
        self.id = f"{self.prefix}_{digits}_{index}"
        self.index = index
        self.status: ItemStatus = "in_progress"
        self.text = orjson.Fragment(b'""')
        self._texts: list[str] = []

    def add(self, text: str, logprobs: bytes) -> None:
        """Add a delta; `logprobs` are only kept for messages."""
        self._texts.append(text)

    def close(self, status: ItemStatus) -> None:
        """Join the deltas; call it after the last `add`."""
        self.status = status
        self.text = orjson.Fragment(orjson.dumps("".join(self._texts)))

    @abstractmethod
    def part(self) -> Json:
        """Build the part of content, empty until `close`."""

    @abstractmethod
    def body(self, content: list[Json]) -> Json:
        """Build the item with this content."""


class ReasoningItem(OutputItem):
    """The model's reasoning before its answer."""

    prefix = "rs"
    part_type = "reasoning_text"

    def part(self) -> Json:
        return {"type": self.part_type, "text": self.text}

    def body(self, content: list[Json]) -> Json:
        return {
            "id": self.id,
            "type": "reasoning",
            "status": self.status,
            "summary": [],
            "content": content,
        }


class MessageItem(OutputItem):
    """The model's answer."""

    prefix = "msg"
    part_type = "output_text"

    def __init__(self, digits: str, index: int) -> None:
        super().__init__(digits, index)
        self.logprobs = orjson.Fragment(b"[]")
        self._logprobs: list[bytes] = []

    def add(self, text: str, logprobs: bytes) -> None:
        """Add a delta, with its logprobs as the inside of a JSON array."""
        self._texts.append(text)
        if logprobs:
            self._logprobs.append(logprobs)

    def close(self, status: ItemStatus) -> None:
        super().close(status)
        self.logprobs = orjson.Fragment(b"[%b]" % b",".join(self._logprobs))

    def part(self) -> Json:
        return {
            "type": self.part_type,
            "text": self.text,
            "annotations": [],
            "logprobs": self.logprobs,
        }

    def body(self, content: list[Json]) -> Json:
        return {
            "id": self.id,
            "type": "message",
            "status": self.status,
            "role": "assistant",
            "content": content,
        }


class Draft:
    """State of a response so far; its ids consist of the request id's digits."""

    def __init__(self, request_id: uuid.UUID, model: str, echo: Echo) -> None:
        self.items: list[OutputItem] = []
        self._digits = request_id.hex
        self._created_at = started_at_ms(request_id) // 1000
        self._model = model
        self._echo = echo
        self._finish_reason: str | None = None
        self._usage: Json | None = None
        self._timings: Json = {}
        self._thinking: Json = {}

    def read(self, chunk: Chunk) -> tuple[str, str, bytes] | None:
        """Store a chunk's counts; return its reasoning, its text and the text's logprobs.

        Returns None for a chunk that has only counts.
        """
        timings = chunk.get("timings")
        if timings is not None:
            self._timings = timings
        choices = chunk.get("choices")
        if not choices:
            self._usage = chunk.get("usage") or self._usage
            return None
        self._model = chunk.get("model") or self._model
        choice = choices[0]
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        delta = choice.get("delta") or {}
        thought, text = delta.get("reasoning_content") or "", delta.get("content") or ""
        if thought:
            self._thinking = self._timings
        logprobs = choice.get("logprobs") if text else None
        return thought, text, _rendered(logprobs) if logprobs else b""

    def open(self, kind: type[OutputItem]) -> OutputItem:
        """Start the next item."""
        item = kind(self._digits, len(self.items))
        self.items.append(item)
        return item

    @property
    def outcome(self) -> Literal["completed", "incomplete"]:
        """Status of an answer that did not fail."""
        return "incomplete" if self._finish_reason == "length" else "completed"

    def lacks_message(self) -> bool:
        """Return whether an empty message is due; an answer cut off in its reasoning has none."""
        if not self.items:
            return True
        return self.outcome == "completed" and not isinstance(self.items[-1], MessageItem)

    def response(self, status: Status, error: Json | None = None) -> Json:
        """Build the response object."""
        completed_at = int(utcnow().timestamp()) if status == "completed" else None
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": f"resp_{self._digits}",
            "object": "response",
            "created_at": self._created_at,
            "completed_at": completed_at,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": incomplete,
            "model": self._model,
            **self._echo.fields,
            "output": [item.body([item.part()]) for item in self.items],
            "previous_response_id": None,
            "truncation": "disabled",
            "usage": None if status == "in_progress" else self._counts(),
        }

    def _counts(self) -> Json | None:
        """Return upstream's usage, or else its last timings; None before the first token."""
        usage, timings = self._usage, self._timings
        if usage is not None:
            prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        elif timings:
            prompt = timings.get("cache_n", 0) + timings.get("prompt_n", 0)
            completion = timings.get("predicted_n", 0)
        else:
            return None
        details = (usage or {}).get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens", timings.get("cache_n", 0))
        # Upstream does not count reasoning separately: use the count at its last delta.
        thoughts = self._thinking.get("predicted_n", 0)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": thoughts},
            "total_tokens": prompt + completion,
        }


class ResponsesAnswer:
    """Collects the answer into one response object."""

    def __init__(self, request_id: uuid.UUID, model: str, echo: Echo) -> None:
        self._draft = Draft(request_id, model, echo)

    def add(self, chunk: Chunk) -> bytes:
        """Add a chunk's delta."""
        pieces = self._draft.read(chunk)
        if pieces is not None:
            thought, text, logprobs = pieces
            if thought:
                self._item(ReasoningItem).add(thought, b"")
            if text:
                self._item(MessageItem).add(text, logprobs)
        return b""

    def _item(self, kind: type[OutputItem]) -> OutputItem:
        items = self._draft.items
        if items and type(items[-1]) is kind:
            return items[-1]
        return self._draft.open(kind)

    def build(self) -> Json:
        """Build the `response` object."""
        draft = self._draft
        if draft.lacks_message():
            draft.open(MessageItem)
        *done, last = draft.items
        for item in done:
            item.close("completed")
        last.close(draft.outcome)
        return draft.response(draft.outcome)


def _rendered(logprobs: Json) -> bytes:
    """Return upstream's logprobs as the inside of a JSON array, without its token ids."""
    entries = [
        {**_token(entry), "top_logprobs": [_token(top) for top in entry["top_logprobs"]]}
        for entry in logprobs["content"]
    ]
    return orjson.dumps(entries)[1:-1]


def _token(entry: Json) -> Json:
    return {name: entry[name] for name in ("token", "bytes", "logprob")}
