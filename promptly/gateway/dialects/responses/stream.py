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
from promptly.gateway.dialects import Sink
from promptly.gateway.dialects.responses.echo import Echo
from promptly.gateway.dialects.responses.output import Output
from promptly.gateway.dialects.responses.output_items import Event, OutputItem


class ResponsesStream(Output):
    """The streamed answer."""

    def __init__(self, request_id: uuid.UUID, model: str, echo: Echo) -> None:
        super().__init__(request_id, model, echo)
        self._number = 0
        self._delta_head = b""

    @property
    def sink(self) -> Sink | None:
        """Converts each chunk to its events."""
        return self.add

    def end(self) -> bytes:
        """Return the events that end a complete answer."""
        outcome = self.draft.outcome
        out = self.start() + self.finish()
        response = self.draft.response(outcome, self.items)
        return out + self._event(f"response.{outcome}", response=response)

    def failed(self, problem: PromptlyError) -> bytes:
        """Return the events that end an answer that fails."""
        out = self.start() + self.close_all("incomplete")
        error = {"code": _code(problem), "message": problem.message}
        response = self.draft.response("failed", self.items, error)
        return out + self._event("response.failed", response=response)

    def started(self) -> bytes:
        response = orjson.Fragment(orjson.dumps(self.draft.response("in_progress", [])))
        created = self._event("response.created", response=response)
        return created + self._event("response.in_progress", response=response)

    def opened(self, item: OutputItem) -> bytes:
        self._delta_head = item.delta_head()
        return self._events(item.first_events())

    def grown(self, item: OutputItem, piece: str, logprobs: bytes) -> bytes:
        out = b'%b%b%b,"sequence_number":%d}\n\n' % (
            self._delta_head,
            orjson.dumps(piece),
            b',"logprobs":[%b]' % logprobs if logprobs else item.delta_end,
            self._number,
        )
        self._number += 1
        return out

    def closed(self, item: OutputItem) -> bytes:
        return self._events(item.last_events())

    def _events(self, events: list[Event]) -> bytes:
        return b"".join(self._event(f"response.{name}", **fields) for name, fields in events)

    def _event(self, name: str, **fields: Any) -> bytes:
        data = orjson.dumps({"type": name, **fields, "sequence_number": self._number})
        self._number += 1
        return sse.named_event(name, data)


def _code(problem: PromptlyError) -> str:
    """Return the nearest of the codes that OpenAI allows in a response's error."""
    if problem.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if problem.status < 500 else "server_error"
