"""The output of one answer, built from upstream's deltas.

One item is open at a time and ends when the next begins. Upstream may switch to another call, or to
text, before a call's arguments are complete: that call stays open and what follows waits for its
end, because a closed item cannot grow.
"""

import uuid
from collections import deque

from promptly.gateway.dialects import Chunk
from promptly.gateway.dialects.responses.deltas import CallDelta, call_delta, logprobs_inside
from promptly.gateway.dialects.responses.draft import Draft
from promptly.gateway.dialects.responses.echo import Echo
from promptly.gateway.dialects.responses.output_items import (
    ContentItem,
    FunctionCallItem,
    ItemStatus,
    MessageItem,
    OutputItem,
    ReasoningItem,
)


class Output:
    """The answer so far: its items, and its draft for all other fields.

    `add` takes the chunks; the methods return the events that result, built by a subclass's hooks.
    """

    def __init__(self, request_id: uuid.UUID, model: str, echo: Echo) -> None:
        self.draft = Draft(request_id, model, echo)
        # The items that have begun, of which the last is open until the end.
        self.items: list[OutputItem] = []
        self._digits = request_id.hex
        self._first_call_only = echo.first_call_only
        self._started = False
        self._open: OutputItem | None = None
        self._waiting: deque[OutputItem] = deque()
        # The last item that waits, or else the open one: text goes there.
        self._newest: OutputItem | None = None
        self._calls: dict[int, FunctionCallItem] = {}
        self._call_ids: set[str] = set()

    def started(self) -> bytes:
        """Hook: build the events before the first item."""
        return b""

    def opened(self, item: OutputItem) -> bytes:
        """Hook: build the events that begin an item."""
        return b""

    def grown(self, item: OutputItem, piece: str, logprobs: bytes) -> bytes:
        """Hook: build the event of a delta of the open item."""
        return b""

    def closed(self, item: OutputItem) -> bytes:
        """Hook: build the events that end an item."""
        return b""

    def add(self, chunk: Chunk) -> bytes:
        """Add one of upstream's chunks; one that raises an error has no effect on the output."""
        choice = self.draft.read(chunk)
        if choice is None:
            return b""
        delta = choice.get("delta") or {}
        thought, text = delta.get("reasoning_content"), delta.get("content")
        if (text and type(text) is not str) or (thought and type(thought) is not str):
            raise TypeError("text of a wrong type")
        logprobs = choice.get("logprobs") if text else None
        inside = logprobs_inside(logprobs) if logprobs else b""
        calls = delta.get("tool_calls")
        if calls:
            calls = [call_delta(call) for call in calls]
        out = b"" if self._started else self.start(chunk)
        if thought:
            self.draft.has_thought()
            out += self._add_text(ReasoningItem, thought, b"")
        if text:
            out += self._add_text(MessageItem, text, inside)
        if calls:
            out += b"".join([self._add_call(call) for call in calls])
        return out

    def start(self, chunk: Chunk | None = None) -> bytes:
        """Start the answer with its first chunk or, at its end, without any."""
        if self._started:
            return b""
        self._started = True
        if chunk is not None:
            self.draft.model = chunk.get("model") or self.draft.model
        return self.started()

    def finish(self) -> bytes:
        """End the items of an answer that did not fail."""
        out = b""
        if self._lacks_message():
            out = self._begin(MessageItem(self._digits, self._next_index()))
        return out + self.close_all(self.draft.outcome)

    def close_all(self, status: ItemStatus) -> bytes:
        """End the open item and those that wait for it."""
        out = self._close(status)
        while self._waiting:
            out += self._open_next() + self._close(status)
        return out

    def _add_text(self, kind: type[ContentItem], text: str, logprobs: bytes) -> bytes:
        item = self._newest
        out = b""
        if item is None or type(item) is not kind:
            item = kind(self._digits, self._next_index())
            out = self._begin(item)
        item.pieces.append(text)
        if logprobs:
            item.logprobs.append(logprobs)
        if item is self._open:
            out += self.grown(item, text, logprobs)
        return out

    def _add_call(self, delta: CallDelta) -> bytes:
        number, call_id, name, arguments = delta
        call = self._calls.get(number)
        out = b""
        if call is None:
            if not name or (self._calls and self._first_call_only):
                return b""
            call = self._calls[number] = self._new_call(call_id, name)
            out = self._begin(call)
        if not arguments:
            return out
        # Has no effect on a closed call, which was complete.
        call.pieces.append(arguments)
        if call is self._open:
            out += self.grown(call, arguments, b"")
            if self._waiting:
                out += self._advance()
        return out

    def _new_call(self, call_id: str, name: str) -> FunctionCallItem:
        # Two calls must not share an id: clients could not tell their outputs apart.
        if call_id in self._call_ids:
            call_id = ""
        call = FunctionCallItem(self._digits, self._next_index(), call_id, name)
        self._call_ids.add(call.call_id)
        return call

    def _next_index(self) -> int:
        return len(self.items) + len(self._waiting)

    def _begin(self, item: OutputItem) -> bytes:
        """Open the item, or let it wait for one that is not complete."""
        self._newest = item
        self._waiting.append(item)
        return self._advance() if len(self._waiting) == 1 else b""

    def _advance(self) -> bytes:
        """Open the items that wait, as far as the open one may end."""
        out = b""
        while self._waiting and (self._open is None or self._open.may_end()):
            out += self._close("completed") + self._open_next()
        return out

    def _open_next(self) -> bytes:
        item = self._open = self._waiting.popleft()
        self.items.append(item)
        out = self.opened(item)
        if item.pieces:
            out += self.grown(item, "".join(item.pieces), b",".join(item.logprobs))
        return out

    def _close(self, status: ItemStatus) -> bytes:
        """End the open item, if there is one."""
        item, self._open = self._open, None
        if item is None:
            return b""
        item.close(status)
        return self.closed(item)

    def _lacks_message(self) -> bool:
        """Return whether an empty message is due; an answer cut off in its reasoning has none."""
        if self._newest is None:
            return True
        completed = self.draft.outcome == "completed"
        return completed and not self._calls and type(self._newest) is ReasoningItem
