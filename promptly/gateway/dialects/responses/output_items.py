"""Items of a response's output, and the events that begin and end each of them.

Complete texts and logprobs are kept as JSON, since a stream repeats them four times.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import orjson

Json = dict[str, Any]
# An event's name after "response.", and its fields except the number.
Event = tuple[str, Json]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputItem(ABC):
    """One item of the output; the text of its deltas is collected in `pieces`."""

    prefix: ClassVar[str]
    # The name of the events with its text, before ".delta" and ".done".
    text_event: ClassVar[str]
    # The fields that follow a delta without logprobs.
    delta_end: ClassVar[bytes] = b""

    def __init__(self, digits: str, index: int) -> None:
        self.id = f"{self.prefix}_{digits}_{index}"
        self.index = index
        self.status: ItemStatus = "in_progress"
        self.text = orjson.Fragment(b'""')
        self.pieces: list[str] = []
        # For each delta with logprobs, the inside of a JSON array.
        self.logprobs: list[bytes] = []

    def may_end(self) -> bool:
        """Return whether the next item can begin before upstream has ended."""
        return True

    def close(self, status: ItemStatus) -> None:
        """Join the deltas; call it after the last one."""
        self.status = status
        self.text = orjson.Fragment(orjson.dumps("".join(self.pieces)))

    def place(self) -> Json:
        """Build the fields by which an event names the place of its text."""
        return {"item_id": self.id, "output_index": self.index}

    def delta_head(self) -> bytes:
        """Build the start of the item's delta events; the text follows as a JSON string."""
        name = f"response.{self.text_event}.delta".encode()
        place = orjson.dumps(self.place())[1:-1]
        return b'event: %b\ndata: {"type":"%b",%b,"delta":' % (name, name, place)

    @abstractmethod
    def body(self) -> Json:
        """Build the item; its text is empty until `close`."""

    def first_events(self) -> list[Event]:
        """Build the events before the first delta."""
        return [("output_item.added", {"output_index": self.index, "item": self.body()})]

    def last_events(self) -> list[Event]:
        """Build the events after the last delta; call it after `close`."""
        return [("output_item.done", {"output_index": self.index, "item": self.body()})]


class ContentItem(OutputItem):
    """An item whose text is its one part of content."""

    @abstractmethod
    def part(self) -> Json:
        """Build the part of content, with nothing in it until `close`."""

    def content(self) -> list[Json]:
        """Build the item's content, which has no part yet when the item begins."""
        return [] if self.status == "in_progress" else [self.part()]

    def place(self) -> Json:
        return {**super().place(), "content_index": 0}

    def first_events(self) -> list[Event]:
        part = ("content_part.added", {**self.place(), "part": self.part()})
        return [*super().first_events(), part]

    def last_events(self) -> list[Event]:
        place, part = self.place(), self.part()
        whole: Json = {name: part[name] for name in ("text", "logprobs") if name in part}
        return [
            (f"{self.text_event}.done", {**place, **whole}),
            ("content_part.done", {**place, "part": part}),
            *super().last_events(),
        ]


class ReasoningItem(ContentItem):
    """The model's reasoning before its answer."""

    prefix = "rs"
    text_event = "reasoning_text"

    def part(self) -> Json:
        return {"type": "reasoning_text", "text": self.text}

    def body(self) -> Json:
        return {
            "id": self.id,
            "type": "reasoning",
            "status": self.status,
            "summary": [],
            "content": self.content(),
        }


class MessageItem(ContentItem):
    """The model's answer."""

    prefix = "msg"
    text_event = "output_text"
    delta_end = b',"logprobs":[]'

    def part(self) -> Json:
        logprobs = b"" if self.status == "in_progress" else b",".join(self.logprobs)
        return {
            "type": "output_text",
            "text": self.text,
            "annotations": [],
            "logprobs": orjson.Fragment(b"[%b]" % logprobs),
        }

    def body(self) -> Json:
        return {
            "id": self.id,
            "type": "message",
            "status": self.status,
            "role": "assistant",
            "content": self.content(),
        }


class FunctionCallItem(OutputItem):
    """A call of one of the client's functions; the text is its arguments.

    `call_id` is upstream's; an empty one is replaced, since the client's output must name it.
    """

    prefix = "fc"
    text_event = "function_call_arguments"

    def __init__(self, digits: str, index: int, call_id: str, name: str) -> None:
        super().__init__(digits, index)
        self.call_id = call_id or f"call_{digits}_{index}"
        self.name = name

    def may_end(self) -> bool:
        """Return whether the arguments are complete: nothing can follow the end of an object."""
        arguments = "".join(self.pieces).rstrip()
        if not arguments.endswith("}"):
            return False
        try:
            orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return False
        return True

    def body(self) -> Json:
        return {
            "id": self.id,
            "type": "function_call",
            "status": self.status,
            "arguments": self.text,
            "call_id": self.call_id,
            "name": self.name,
        }

    def last_events(self) -> list[Event]:
        done = ("function_call_arguments.done", {**self.place(), "arguments": self.text})
        return [done, *super().last_events()]
