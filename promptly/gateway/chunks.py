"""Upstream's chunks on their way to the client: counted, and reduced to what the client requested.

Upstream always sends `timings`, progress and usage, which are read for the running count and
removed again. Nearly all chunks are plain deltas, recognised by how they start: of those the newest
count is found and the timings are cut out by searching, without parsing. All others (the first, the
last, errors, and whatever another version may send) are parsed one by one.
"""

import time
from collections.abc import Callable
from typing import Any

import orjson

from promptly.gateway import sse
from promptly.gateway.collected_deltas import CollectedDeltas
from promptly.gateway.counts import Counts, are_counts, corrected, count_of
from promptly.gateway.dialects import Sink
from promptly.gateway.timings import PLAIN, cleaned, cut_deltas, cut_from_end

# Exceptions raised by a malformed event.
MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError)

_TIMED = ("cache_n", "prompt_n", "predicted_n")
_ROLE_FIELDS = ("id", "object", "created", "model", "system_fingerprint")


class ChunkReader(Counts):
    """Reads one stream of generated text: keeps the counts, yields what the client may see.

    With a `sink` every chunk, usage included, goes there decoded and its result is returned;
    without one the stream must be a chat's. A sink that `collects` returns no bytes; it gets deltas
    late and many at a time, for a fraction of the cost. With `counts_only` the sink's chunks have
    no choices any more: its result would reach nobody. `output_limit` returns the completion tokens
    that the hold covers after a prompt of a given size, and so many of its tokens cached; it is
    called once, when that size is known. Without `owns_cache` the cache is another account's: no
    token counts as cached, neither for the charge nor for the client.
    """

    __slots__ = (
        "_base",
        "_collected",
        "_include_usage",
        "_output_limit",
        "_rest",
        "_role_sent",
        "_sink",
        "counts_only",
        "done",
        "error",
        "finish_reason",
        "limit_reached",
        "owns_cache",
        "usage",
    )

    def __init__(
        self,
        *,
        include_usage: bool,
        output_limit: Callable[[int, int], int | None] | None = None,
        sink: Sink | None = None,
        collects: bool = False,
    ) -> None:
        super().__init__()
        self._include_usage = include_usage or sink is not None
        self._sink = sink
        self._collected = CollectedDeltas(sink) if collects and sink is not None else None
        self._output_limit = output_limit
        self._role_sent = False
        self._rest = b""
        self._base: dict[str, Any] = {}
        self.counts_only = False
        self.owns_cache = True
        self.limit_reached = False
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.done = False

    def read(self, block: bytes) -> bytes:
        """Return what the client gets of a block of complete events.

        Reading stops at the event that reaches `limit`, and `limit_reached` is set; the rest of
        the block is kept for `resume`.
        """
        if block.startswith(PLAIN) and (shown := self._read_deltas(block)) is not None:
            return shown
        out = []
        start = 0
        # Where the last delta of a block begins that has other events as well.
        last = block.rfind(PLAIN)
        while (end := block.find(b"\n\n", start)) >= 0:
            if start < last and block.startswith(PLAIN, start):
                stop = block.find(b"\n\n", last) + 2
                if (shown := self._read_deltas(block[start:stop])) is not None:
                    out.append(shown)
                    start = stop
                    continue
                if self.first_token_at is not None:
                    last = 0
            if block.startswith(b"data: ", start):
                try:
                    out.append(self._read_event(block[start + 6 : end]))
                except MALFORMED:
                    # Events before it still go to the client, as with an error from upstream.
                    self.error = {}
            start = end + 2
            if self.done or self.error is not None:
                break
            if self.limit_reached:
                self._rest = block[start:]
                break
        return b"".join(out)

    def _read_deltas(self, block: bytes) -> bytes | None:
        """Read a block that begins with a plain delta; None if not all of it can be searched."""
        # Progress also starts like a delta, but there is none after the first token.
        if self.first_token_at is None or (self._sink is not None and self._collected is None):
            return None
        cut = cut_from_end(block) or cut_deltas(block)
        if cut is None:
            return None
        out, count = cut
        if self.limit is not None and count >= self.limit:
            return None
        if count > self.completion_tokens:
            self.completion_tokens = count
        if self._collected is None:
            return out
        if not self.counts_only:
            # Whole: answers tell the tokens of their thoughts by the timings.
            self._collected.add(block)
        return b""

    def resume(self, limit: int | None) -> bytes:
        """Read what was kept when the limit was reached, under a higher limit."""
        self.limit = limit
        self.limit_reached = False
        rest, self._rest = self._rest, b""
        return self.read(rest)

    def _read_event(self, data: bytes) -> bytes:
        if data == b"[DONE]":
            self.done = True
            return b""
        chunk = orjson.loads(data)
        if "error" in chunk:
            self.error = chunk["error"] if isinstance(chunk["error"], dict) else {}
            return b""
        progress = chunk.get("prompt_progress")
        if progress is not None:
            size = count_of(progress["total"], self.prompt_size or 0)
            self.prompt_tokens = max(self.prompt_tokens, count_of(progress["processed"]))
            self._set_reused(count_of(progress.get("cache"), self.reused_tokens))
            self._set_prompt_size(size)
            return b""
        usage = chunk.get("usage")
        self._read_counts(chunk)
        if usage is not None and chunk["usage"] is not usage:
            data = orjson.dumps(chunk)
        choices = chunk.get("choices")
        if not choices:
            return self._show(data, chunk) if self._include_usage else b""
        if not self._base:
            self._base = {name: chunk[name] for name in _ROLE_FIELDS if name in chunk}
        out = b""
        if not self._role_sent:
            self._role_sent = True
            delta = choices[0].get("delta")
            if delta and "role" in delta:
                if delta.get("content") is None:
                    # Clients would keep the null of an answer without text, and send it back.
                    delta["content"] = ""
                    data = orjson.dumps(chunk)
            elif "text" not in choices[0]:
                out = self.chunk({"role": "assistant", "content": ""})
        if choices[0].get("finish_reason"):
            self.finish_reason = choices[0]["finish_reason"]
        elif self.limit is not None and self.completion_tokens >= self.limit:
            self.limit_reached = True
        return out + self._show(data, chunk)

    def _show(self, data: bytes, chunk: dict[str, Any]) -> bytes:
        return cleaned(data) if self._sink is None else self._pass_on(chunk)

    def _pass_on(self, chunk: dict[str, Any]) -> bytes:
        if self._sink is None:
            return sse.event(orjson.dumps(chunk))
        if self._collected is not None:
            try:
                self._collected.pass_on()
            except MALFORMED:
                self.error = {}
        return self._sink({**chunk, "choices": []} if self.counts_only else chunk)

    def _set_prompt_size(self, tokens: int) -> None:
        if self.prompt_size is None and self._output_limit is not None:
            self.limit = self._output_limit(tokens, self.cached_tokens)
        self.prompt_size = tokens
        self.release_hold()

    def release_hold(self) -> None:
        """Forget the hold, which refers to this reader: neither would be freed (ClientWatch)."""
        self._output_limit = None

    def _read_counts(self, chunk: dict[str, Any]) -> None:
        """Take in a chunk's counts; what cannot be a count is corrected in the chunk as well."""
        timings = chunk.get("timings")
        if timings is not None:
            cached, processed, predicted = (
                timings.get("cache_n", 0),
                timings.get("prompt_n", 0),
                timings.get("predicted_n", 0),
            )
            if not are_counts(cached, processed, predicted):
                timings = chunk["timings"] = corrected(timings, _TIMED)
                cached, processed, predicted = (timings.get(name, 0) for name in _TIMED)
            if self.first_token_at is None and predicted:
                self.first_token_at = time.monotonic()
                self.prompt_ms = count_of(timings.get("prompt_ms"))
            size = cached + processed
            self.prompt_tokens = max(self.prompt_tokens, self.prompt_size or size)
            self._set_reused(cached)
            if self.prompt_size is None:
                self._set_prompt_size(size)
            self.completion_tokens = max(self.completion_tokens, predicted)
        usage = chunk.get("usage")
        if usage is not None:
            self.prompt_tokens = count_of(usage["prompt_tokens"], self.prompt_tokens)
            self.completion_tokens = count_of(usage["completion_tokens"], self.completion_tokens)
            self.prompt_size = self.prompt_tokens
            details = usage.get("prompt_tokens_details")
            reported = details.get("cached_tokens") if isinstance(details, dict) else None
            self._set_reused(count_of(reported, self.reused_tokens))
            chunk["usage"] = self.usage = self.corrected_usage(usage)

    def _set_reused(self, tokens: int) -> None:
        """Take in how much of the prompt was cached: at most all of it."""
        self.reused_tokens = tokens if tokens < self.prompt_tokens else self.prompt_tokens
        self.cached_tokens = self.reused_tokens if self.owns_cache else 0

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        """Build a chunk of our own for this stream, as upstream would have sent it."""
        choice = {"finish_reason": finish_reason, "index": 0, "delta": delta}
        return self._pass_on({"choices": [choice], **self._base})

    def closing_chunks(self) -> bytes:
        """Build the end that upstream would have sent had the limit been its own."""
        self.finish_reason = "length"
        out = self.chunk({}, "length")
        if self._include_usage:
            self.usage = {
                "completion_tokens": self.completion_tokens,
                "prompt_tokens": self.prompt_tokens,
                "total_tokens": self.prompt_tokens + self.completion_tokens,
                "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            }
            out += self._pass_on({"choices": [], **self._base, "usage": self.usage})
        return out
