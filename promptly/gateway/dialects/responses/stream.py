"""A response as a sequence of events.

Each event is named by its `type` and numbered from 0. An item is closed before the next is opened,
and all are closed before the last event, which repeats the whole output. Nearly all events are
deltas, so these are assembled from bytes prepared when their item was opened; dicts are encoded
only where an item starts or ends.
"""

import uuid
from typing import Any

import orjson

from promptly.errors import PromptlyError
from promptly.gateway import sse
from promptly.gateway.dialects import Chunk, Sink
from promptly.gateway.dialects.responses.answer import (
    Draft,
    ItemStatus,
    MessageItem,
    OutputItem,
    ReasoningItem,
)
from promptly.gateway.dialects.responses.echo import Echo


class ResponsesStream:
    """The streamed answer."""

    def __init__(self, request_id: uuid.UUID, model: str, echo: Echo) -> None:
        self._draft = Draft(request_id, model, echo)
        self._item: OutputItem | None = None
        self._number = 0
        self._delta_head = b""

    @property
    def sink(self) -> Sink | None:
        """Converts each chunk to its events."""
        return self._take

    def end(self) -> bytes:
        """Return the events that end a complete answer."""
        draft = self._draft
        out = self._begin()
        if draft.lacks_message():
            out += self._close("completed") + self._open(MessageItem)
        out += self._close(draft.outcome)
        response = draft.response(draft.outcome)
        return out + self._event(f"response.{draft.outcome}", response=response)

    def failed(self, problem: PromptlyError) -> bytes:
        """Return the events that end an answer that fails."""
        out = self._begin() + self._close("incomplete")
        error = {"code": _code(problem), "message": problem.message}
        response = self._draft.response("failed", error)
        return out + self._event("response.failed", response=response)

    def _take(self, chunk: Chunk) -> bytes:
        pieces = self._draft.read(chunk)
        if pieces is None:
            return b""
        thought, text, logprobs = pieces
        out = b"" if self._number else self._begin()
        if thought:
            out += self._add(ReasoningItem, thought, b"")
        if text:
            out += self._add(MessageItem, text, logprobs)
        return out

    def _begin(self) -> bytes:
        """Return the two events that start every stream, unless they were sent."""
        if self._number:
            return b""
        response = orjson.Fragment(orjson.dumps(self._draft.response("in_progress")))
        created = self._event("response.created", response=response)
        return created + self._event("response.in_progress", response=response)

    def _add(self, kind: type[OutputItem], text: str, logprobs: bytes) -> bytes:
        out = b""
        item = self._item
        if type(item) is not kind:
            out = self._close("completed") + self._open(kind)
            item = self._item
        assert item is not None
        item.add(text, logprobs)
        if kind is MessageItem:
            out += b'%b%b,"logprobs":[%b],"sequence_number":%d}\n\n' % (
                self._delta_head,
                orjson.dumps(text),
                logprobs,
                self._number,
            )
        else:
            out += b'%b%b,"sequence_number":%d}\n\n' % (
                self._delta_head,
                orjson.dumps(text),
                self._number,
            )
        self._number += 1
        return out

    def _open(self, kind: type[OutputItem]) -> bytes:
        item = self._item = self._draft.open(kind)
        name = f"response.{item.part_type}.delta"
        self._delta_head = (
            f'event: {name}\ndata: {{"type":"{name}","item_id":"{item.id}",'
            f'"output_index":{item.index},"content_index":0,"delta":'
        ).encode()
        added = self._event(
            "response.output_item.added", output_index=item.index, item=item.body([])
        )
        return added + self._part_event("content_part.added", part=item.part())

    def _close(self, status: ItemStatus) -> bytes:
        """Return the events that end the open item; empty without one."""
        item = self._item
        if item is None:
            return b""
        item.close(status)
        part = item.part()
        done = {name: part[name] for name in ("text", "logprobs") if name in part}
        out = self._part_event(f"{item.part_type}.done", **done)
        out += self._part_event("content_part.done", part=part)
        out += self._event(
            "response.output_item.done", output_index=item.index, item=item.body([part])
        )
        self._item = None
        return out

    def _part_event(self, name: str, **fields: Any) -> bytes:
        """Build an event of the open item's content."""
        assert self._item is not None
        place = {"item_id": self._item.id, "output_index": self._item.index, "content_index": 0}
        return self._event(f"response.{name}", **place, **fields)

    def _event(self, name: str, **fields: Any) -> bytes:
        data = orjson.dumps({"type": name, **fields, "sequence_number": self._number})
        self._number += 1
        return sse.named_event(name, data)


def _code(problem: PromptlyError) -> str:
    """Return the nearest of the codes that OpenAI allows in a response's error."""
    if problem.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if problem.status < 500 else "server_error"
