"""The response object around its output."""

import uuid
from typing import Any, Literal

from promptly.clock import utcnow
from promptly.gateway.dialects import Chunk
from promptly.gateway.dialects.responses.echo import Echo
from promptly.gateway.dialects.responses.output_items import OutputItem
from promptly.request_ids import started_at_ms

Json = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete", "failed"]


class Draft:
    """State of a response so far, without its output; its ids are the request id's digits."""

    def __init__(self, request_id: uuid.UUID, model: str, echo: Echo) -> None:
        self._digits = request_id.hex
        self._created_at = started_at_ms(request_id) // 1000
        self.model = model
        self._echo = echo
        self._finish_reason: str | None = None
        self._usage: Json | None = None
        self._timings: Json = {}
        self._thinking: Json = {}

    def read(self, chunk: Chunk) -> Json | None:
        """Store a chunk's counts and return its choice; None for a chunk that has only counts."""
        timings = chunk.get("timings")
        if timings is not None:
            self._timings = timings
        choices = chunk.get("choices")
        if not choices:
            self._usage = chunk.get("usage") or self._usage
            return None
        choice: Json = choices[0]
        reason = choice.get("finish_reason")
        if reason:
            self._finish_reason = reason
        return choice

    def has_thought(self) -> None:
        """Count the tokens so far as reasoning; upstream does not count it separately."""
        self._thinking = self._timings

    @property
    def outcome(self) -> Literal["completed", "incomplete"]:
        """Status of an answer that did not fail."""
        return "incomplete" if self._finish_reason == "length" else "completed"

    def response(self, status: Status, items: list[OutputItem], error: Json | None = None) -> Json:
        """Build the response object with these items."""
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
            "model": self.model,
            **self._echo.fields,
            "output": [item.body() for item in items],
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
        thoughts = self._thinking.get("predicted_n", 0)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": thoughts},
            "total_tokens": prompt + completion,
        }
