"""Text completions in the client's format: streamed, or as one object."""

import time
from typing import Any

import orjson

from promptly.errors import PromptlyError
from promptly.gateway import sse
from promptly.gateway.dialects.completions.logprobs import Logprobs

Choice = dict[str, Any]


class Choices:
    """Reads upstream's chunks, prompt after prompt, and returns what each adds to its choice.

    `head` has the fields that all objects of the answer share, `usage` the sum over all prompts.
    """

    def __init__(self, answer_id: str, logprobs: int | None) -> None:
        self.head: dict[str, Any] = {
            "id": answer_id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": "",
        }
        self.usage: dict[str, Any] = {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        self._alternatives = logprobs
        self._index = 0
        self._logprobs = Logprobs(logprobs or 0)

    def read(self, chunk: dict[str, Any]) -> Choice | None:
        """Return what a chunk adds to its choice; None if nothing."""
        usage = chunk.get("usage")
        if usage:
            self._add(usage)
        if not chunk.get("choices"):
            return None
        self.head["model"] = chunk.get("model") or self.head["model"]
        choice = chunk["choices"][0]
        entries = (choice.get("logprobs") or {}).get("content")
        reason = choice.get("finish_reason")
        found: Choice = {
            "text": choice.get("text") or "",
            "index": self._index,
            "logprobs": None,
            "finish_reason": reason,
        }
        if entries and self._alternatives is not None:
            found["logprobs"] = self._logprobs.read(entries)
        if reason:
            self._index += 1
            self._logprobs = Logprobs(self._alternatives or 0)
        return found if reason or found["text"] or found["logprobs"] else None

    def _add(self, usage: dict[str, Any]) -> None:
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            self.usage[name] += usage[name]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        self.usage["prompt_tokens_details"]["cached_tokens"] += cached


class TextStream:
    """The streamed answer: one event for each upstream chunk that adds something."""

    def __init__(self, answer_id: str, *, logprobs: int | None, include_usage: bool) -> None:
        self._choices = Choices(answer_id, logprobs)
        self._include_usage = include_usage

    def sink(self, chunk: dict[str, Any]) -> bytes:
        """Return the event for one chunk, or nothing."""
        choice = self._choices.read(chunk)
        return b"" if choice is None else self._event(choices=[choice])

    def end(self) -> bytes:
        """Return the usage of all prompts, if requested, and the event that ends the stream."""
        if not self._include_usage:
            return sse.DONE
        return self._event(choices=[], usage=self._choices.usage) + sse.DONE

    def failed(self, problem: PromptlyError) -> bytes:
        """Return the error as a last event."""
        return sse.event(orjson.dumps(problem.body()))

    def _event(self, **fields: Any) -> bytes:
        return sse.event(orjson.dumps({**self._choices.head, **fields}))


class TextAnswer:
    """Collects the choices of all prompts into one object."""

    def __init__(self, answer_id: str, *, logprobs: int | None) -> None:
        self._choices = Choices(answer_id, logprobs)
        self._parts: list[list[Choice]] = []

    def add(self, chunk: dict[str, Any]) -> bytes:
        """Add what a chunk has for its choice."""
        choice = self._choices.read(chunk)
        if choice is not None:
            if choice["index"] == len(self._parts):
                self._parts.append([])
            self._parts[-1].append(choice)
        return b""

    def build(self) -> dict[str, Any]:
        """Build the `text_completion` object."""
        return {
            **self._choices.head,
            "choices": [_joined(parts) for parts in self._parts],
            "usage": self._choices.usage,
        }


def _joined(parts: list[Choice]) -> Choice:
    """Join the parts of one choice."""
    logprobs = [part["logprobs"] for part in parts if part["logprobs"]]
    return {
        **parts[-1],
        "text": "".join(part["text"] for part in parts),
        "logprobs": {
            name: [item for part in logprobs for item in part[name]] for name in logprobs[0]
        }
        if logprobs
        else None,
    }
