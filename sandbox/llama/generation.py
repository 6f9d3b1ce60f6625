"""One running request: the prompt in steps, the answer token by token, faults on demand.

Tests rely on the order of events around a disconnect: before every write the event loop has
polled the socket; once the client is gone nothing more is written; the record holds the last
count that was written to the socket.
"""

import asyncio
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from sandbox.llama import stops
from sandbox.llama.answers import Answer
from sandbox.llama.chunks import (
    PING,
    ChatChunks,
    Clock,
    TextChunks,
    progress_of,
    usage_of,
)
from sandbox.llama.faults import Steering
from sandbox.llama.http import Connection
from sandbox.llama.lies import told
from sandbox.llama.prompt import Body, calls_of
from sandbox.llama.prompt_cache import Prompt
from sandbox.llama.records import Record
from sandbox.llama.replies import STREAM_END, STREAM_HEAD, reply
from sandbox.llama.whole import alternatives_of, logprob_entry, render_whole

SPLIT_PAUSE_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Pace:
    """Speed of the simulated machine; zero tokens per second means as fast as possible.

    Prompts are processed in batches of `batch_tokens`, each of which runs to its end.
    """

    tokens_per_second: float = 0.0
    prompt_tokens_per_second: float = 0.0
    batch_tokens: int = 2048
    ping_seconds: float = 30.0


class Generation:
    """The answer to one validated request that has a slot."""

    def __init__(
        self,
        connection: Connection,
        record: Record,
        body: Body,
        answer: Answer,
        steering: Steering,
        pace: Pace,
        chunks: ChatChunks | TextChunks,
        model: str,
    ) -> None:
        self.connection = connection
        self.record = record
        self.body = body
        self.answer = answer
        self.steering = steering
        self.pace = pace
        self.chunks = chunks
        self.model = model
        self.cached = 0
        self.clock = Clock(record.prompt_tokens, 0)
        self.stream = record.stream
        self.timed = bool(body.get("timings_per_token"))
        self.with_progress = bool(body.get("return_progress"))

    def _framed(self, payload: bytes) -> bytes:
        return _framed(told(payload, self.steering.lie))

    async def run(self, cached: int) -> str:
        """Answer the request and return the outcome: finished, client_closed or fault.

        ``cached`` tokens of the prompt are in the slot already.
        """
        if self.steering.cache is not None:
            cached = min(self.steering.cache, max(0, self.record.prompt_tokens - 1))
        self.cached = self.record.cached_prompt_tokens = cached
        self.clock = Clock(self.record.prompt_tokens, cached)
        if self.steering.headers_ms:
            await self._pause(self.steering.headers_ms / 1000.0, pings=False)
        if self.steering.die:
            os._exit(1)
        if self.connection.gone:
            return "client_closed"
        if self.stream:
            self.connection.begin(STREAM_HEAD)
        return await self._prompt() or await self._tokens() or await self._finish()

    def processed(self, prompt: Prompt) -> Prompt:
        """Return what of the prompt and its answer has been processed, and stays in the slot."""
        count = self.record.completion_generated
        if not count:
            return prompt.first(self.record.processed_prompt_tokens)
        deltas = [delta for delta in self.answer.tokens[:count] if delta and delta.kind != "tool"]
        text = "".join(delta.text for delta in deltas).encode("utf-8", "surrogatepass")
        return prompt.followed_by(text + calls_of(self.answer.tool_calls))

    async def _prompt(self) -> str:
        self.record.processed_prompt_tokens = 0
        if not await self._send_progress(self.cached):
            return "client_closed"
        for processed, seconds in self._batches():
            ends_at = time.perf_counter() + seconds
            await self._pause(seconds)
            if self.connection.gone and self.steering.prefill_ms is None:
                await asyncio.sleep(max(0.0, ends_at - time.perf_counter()))
            if not await self._send_progress(processed):
                return "client_closed"
            self.record.processed_prompt_tokens = processed
        self.clock.prompt_is_done()
        return ""

    def _batches(self) -> Iterator[tuple[int, float]]:
        """Yield the count after each batch of the prompt, and how long the batch takes."""
        total, pace, steering = self.record.prompt_tokens, self.pace, self.steering
        new = total - self.cached
        if steering.progress or steering.prefill_ms is not None:
            steps = steering.progress or -(-new // pace.batch_tokens)
            ends = [self.cached + new * step // steps for step in range(1, steps + 1)]
        else:
            ends = [*range(self.cached + pace.batch_tokens, total, pace.batch_tokens), total]
        before = self.cached
        for end in ends:
            seconds = 0.0
            if steering.prefill_ms is not None:
                seconds = steering.prefill_ms / 1000.0 / len(ends)
            elif pace.prompt_tokens_per_second:
                seconds = (end - before) / pace.prompt_tokens_per_second
            yield end, seconds
            before = end

    async def _send_progress(self, processed: int) -> bool:
        """Report the prompt's progress if the request wants it; False if the client is gone."""
        if self.connection.gone or not (self.stream and self.with_progress):
            return not self.connection.gone
        progress = progress_of(
            self.record.prompt_tokens, self.cached, processed, self.clock.prompt_ms()
        )
        timings = self.clock.during_prompt(processed) if self.timed else b""
        payload = self.chunks.progress(progress, timings)
        if self.steering.split:
            if not await self._send_split(b"", payload):
                return False
        else:
            self.connection.write(self._framed(payload))
        self.record.processed_prompt_tokens = processed
        await self.connection.drain()
        return True

    async def _tokens(self) -> str:
        """Send the answer. This is the hot path: keep the work per token minimal."""
        connection, record, chunks, clock = self.connection, self.record, self.chunks, self.clock
        triggers = [*self.steering.triggers, -1]
        trigger = triggers.pop(0)
        if trigger == 0:
            if outcome := await self._fault(0):
                return outcome
            trigger = triggers.pop(0)
        delay = self._token_seconds()
        due = time.perf_counter()
        role_is_due = bool(chunks.role) and not self.answer.starts_inside_character
        alternatives = alternatives_of(self.body, chat=not isinstance(chunks, TextChunks))
        for count, delta in enumerate(self.answer.tokens, 1):
            due += delay
            wait = due - time.perf_counter() if delay else 0.0
            if wait > self.pace.ping_seconds:
                await self._pause(wait)
            else:
                await connection.pause(wait)
            if connection.gone:
                return "client_closed"
            record.completion_generated = count
            if self.stream and (delta is not None or role_is_due):
                timings = clock.at_token(count) if self.timed else b""
                event = b""
                if role_is_due:
                    role_is_due = False
                    # If the first token has no delta, the role's event carries its timings.
                    event = self._framed(chunks.delta(chunks.role, b"" if delta else timings))
                if delta is not None:
                    extra = b""
                    if alternatives and delta.text:
                        entry = logprob_entry(delta.text, alternatives)
                        extra = orjson.dumps({"content": [entry]})
                    payload = chunks.delta(delta.rendered, timings, extra)
                    if self.steering.split:
                        if not await self._send_split(event, payload):
                            return "client_closed"
                    else:
                        connection.write(event + self._framed(payload))
                else:
                    connection.write(event)
                record.completion_tokens = count
                await connection.drain()
            if count == trigger:
                if outcome := await self._fault(count):
                    return outcome
                trigger = triggers.pop(0)
                due = time.perf_counter()
        return ""

    def _token_seconds(self) -> float:
        if self.steering.delay_ms is not None:
            return self.steering.delay_ms / 1000.0
        return 1.0 / self.pace.tokens_per_second if self.pace.tokens_per_second else 0.0

    async def _fault(self, count: int) -> str:
        """Apply the faults due at this count; a non-empty outcome ends the request."""
        steering = self.steering
        if steering.die_after == count:
            os._exit(1)
        if steering.stall_after == count:
            await self._pause(steering.stall_s)
        if self.connection.gone:
            return "client_closed"
        if steering.error_after == count:
            error = {"code": 500, "message": "Compute error.", "type": "server_error"}
            payload = b"data: " + orjson.dumps({"error": error}) + b"\n\n"
            self.connection.write(self._framed(payload) + STREAM_END)
        elif steering.reset_after == count:
            self.connection.reset()
            return "fault"
        elif steering.eof_after != count:
            return ""
        self.connection.close()
        return "fault"

    async def _finish(self) -> str:
        await self.connection.drain()
        if self.connection.gone:
            return "client_closed"
        count = len(self.answer.tokens)
        record = self.record
        usage = usage_of(record.prompt_tokens, count, self.cached)
        timings = self.clock.at_token(count)
        if self.stream:
            options = self.body.get("stream_options") or {}
            wanted = isinstance(self.chunks, TextChunks) or options.get("include_usage")
            verbose = stops.report(self.body, self.answer.stop_type, self.answer.stop)
            last = self.chunks.last(
                self.answer.finish.value, usage if wanted else b"", timings, verbose
            )
            framed = b"".join(
                self._framed(event + b"\n\n") for event in last.split(b"\n\n") if event
            )
            self.connection.write(framed + STREAM_END)
            # The real server announces to keep the connection as well, and closes it.
            self.connection.close()
        else:
            whole = render_whole(self.body, self.answer, self.chunks, self.model, usage, timings)
            self.connection.begin(reply(200, whole))
        record.completion_tokens = count
        return "finished"

    async def _send_split(self, before: bytes, payload: bytes) -> bool:
        """Send one event as two chunks in two segments, cut where the steering says.

        False if the client disconnected in between: the event then counts as not sent.
        """
        cut = _cut(payload, self.steering.split)
        self.connection.write(before + self._framed(payload[:cut]))
        await self.connection.pause(SPLIT_PAUSE_SECONDS)
        if self.connection.gone:
            return False
        self.connection.write(self._framed(payload[cut:]))
        return True

    async def _pause(self, seconds: float, *, pings: bool = True) -> None:
        """Wait silently, apart from the periodic ping comments that the real server sends."""
        deadline = time.perf_counter() + seconds
        while not self.connection.gone:
            remaining = deadline - time.perf_counter()
            await self.connection.pause(min(remaining, self.pace.ping_seconds))
            if remaining <= self.pace.ping_seconds:
                return
            if pings and self.stream and not self.connection.gone:
                self.connection.write(self._framed(PING))


def _framed(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


def _cut(payload: bytes, how: str) -> int:
    if how == "utf8":
        for position, byte in enumerate(payload):
            if byte >= 0xC0:
                return position + 1
    if how == "random":
        return 1 + zlib.crc32(payload) % (len(payload) - 1)
    return len(payload) // 2
