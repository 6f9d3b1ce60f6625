"""Generated text on its way from upstream to the client: counted, held for, passed on.

`Relay.events` yields what the client gets of one chat, or of one prompt after the other.
"""

import time
import uuid
from collections.abc import Generator
from typing import TYPE_CHECKING

from promptly.clients.llama import LlamaError, LlamaStream
from promptly.errors import PromptlyError, UpstreamError
from promptly.gateway import chunks, sse
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.dialects import Sink
from promptly.gateway.generation import GenerationRequest
from promptly.gateway.growth import HoldGrowth, affordable_limit
from promptly.gateway.holding import Placed, count_prompt, first_output
from promptly.gateway.live import LiveRequest
from promptly.gateway.metered import Metered
from promptly.gateway.refusals import NoAnswer, refusal
from promptly.services.accounts.authentication import Caller

if TYPE_CHECKING:
    from promptly.gateway import Gateway

# After telling upstream to stop: how long, and how much, is still read of what it had sent.
DRAIN_SECONDS = 2.0
DRAIN_BYTES = 4 * 1024 * 1024

# What reading bytes raises that are no stream of chunks.
MALFORMED = (*chunks.MALFORMED, sse.EventTooLong)


class Relay(Metered):
    """One metered request for generated text; a part of it is a prompt.

    The hold covers the prompts that are still to come as well. Where the balance ends, the answer
    to that prompt ends, and those after it are empty; they are not run and cost nothing.
    """

    def __init__(
        self,
        gateway: "Gateway",
        caller: Caller,
        request_id: uuid.UUID,
        endpoint: str,
        request: GenerationRequest,
        placed: Placed,
        sink: Sink | None,
    ) -> None:
        self._request = request
        self._part = 0
        self._prompt = request.prompts[0]
        self._placed = placed
        self._sink = sink
        held, later = placed.hold.held_tokens, sum(placed.prompt_tokens[1:])
        self.reader = self._make_reader(held - later)
        live = LiveRequest(request_id, self.reader, held, request.max_tokens)
        live.hold = placed.hold
        live.reserved_tokens = later
        live.parts_left = parts = len(placed.prompt_tokens)
        super().__init__(gateway, caller, endpoint, live, path=self._prompt.path, parts=parts)
        self._growth = HoldGrowth(gateway.settings, gateway.bookkeeper, live, self.reader)
        self._buffer = sse.EventBuffer()
        self._began_at: float | None = None

    def _make_reader(self, held_tokens: int) -> ChunkReader:
        return ChunkReader(
            include_usage=self._request.include_usage, held_tokens=held_tokens, sink=self._sink
        )

    def _body(self, part: int) -> bytes:
        placed, live = self._placed, self.live
        live.max_tokens = affordable_limit(
            live,
            placed.hold,
            placed.prompt_tokens[part] if placed.counted else None,
            self._request.max_tokens,
        )
        return self._prompt.upstream_body(live.max_tokens)

    def _go_on(self, part: int) -> Generator[bytes, None, bool]:
        """Begin the next prompt, or end it all where the balance ends."""
        if not self.reader.limit_reached:
            if part == self._parts:
                return True
            self.live.raise_if_stopped()
            if (yield from self._cover(part)) or (
                self._count_from(part) and (yield from self._cover(part))
            ):
                self._begin(part)
                return True
        for _ in range(part, self._parts):
            yield self._make_reader(0).closing_chunks()
        return False

    def _cover(self, part: int) -> Generator[bytes, None, bool]:
        """Wait until the hold covers the prompts from this one on, and a token of output."""
        covered = self._reserved(part) + self._placed.prompt_tokens[part]
        output = first_output(
            self._request.max_tokens, self._parts - part, self._settings.hold_quantum_tokens
        )
        return (yield from self._growth.cover(covered + 1, covered + output))

    def _reserved(self, part: int) -> int:
        """What of the hold is not for this part, which is about to begin."""
        _, prompt_tokens, completion_tokens = self.live.counts()
        return prompt_tokens + completion_tokens + sum(self._placed.prompt_tokens[part + 1 :])

    def _begin(self, part: int) -> None:
        reserved = self._reserved(part)
        self._part = part
        self._prompt = self._request.prompts[part]
        self._began_at = self._first_token_at()
        self._buffer = sse.EventBuffer()
        self.reader = self._make_reader(self.live.held_tokens - reserved)
        self._growth.reader = self.reader
        self.live.begin_part(self.reader, reserved)

    def _count_from(self, part: int) -> bool:
        """Count the prompts from this one on, if they are only bounded; False if that is no help.

        Their bounds are several times as large: too much to set aside when the balance ends.
        """
        placed, prompts = self._placed, self._request.prompts
        if placed.counted or part == self._parts:
            return False
        try:
            counted = [count_prompt(self._gateway, prompt) for prompt in prompts[part:]]
        except PromptlyError:
            return False
        self.live.reserved_tokens += sum(counted) - sum(placed.prompt_tokens[part:])
        placed.prompt_tokens[part:] = counted
        placed.counted = True
        return True

    def _grow(self) -> Generator[bytes, None, bool]:
        """The hold is used up: wait for more; False when the balance ends here."""
        if (yield from self._growth.grow()):
            return True
        if not self._count_from(self._part + 1):
            return False
        self.live.set_limits(self._settings.hold_quantum_tokens)
        return (yield from self._growth.grow())

    def _answer(self, stream: LlamaStream) -> Generator[bytes, None, None]:
        """Relay one upstream's answer; the body of the house."""
        reader, live, feed = self.reader, self.live, self._buffer.feed
        comment_seconds = self._settings.keepalive_comment_seconds
        stream.wait_at_most(comment_seconds)
        while True:
            try:
                data = stream.read()
            except TimeoutError:
                yield from self._comment()
                continue
            except LlamaError as problem:
                self.live.raise_if_stopped()
                if reader.finish_reason is not None:
                    return
                if stream.status is None:
                    raise NoAnswer(UpstreamError()) from problem
                raise UpstreamError from problem
            now = live.touched_at = time.monotonic()
            if live.stop_reason is not None:
                self._read_block(data)
                self.live.raise_if_stopped()
            if stream.status != 200 and stream.status is not None:
                raise refusal(stream, data, self._prompt)
            if data is None:
                self.live.raise_if_stopped()
                if reader.finish_reason is None:
                    raise UpstreamError
                return
            try:
                block = feed(data)
                out = reader.read(block) if block else b""
            except MALFORMED as problem:
                raise UpstreamError from problem
            if not block:
                if now - self._spoke_at >= comment_seconds:
                    yield from self._comment()
                continue
            if reader.completion_tokens >= live.attention_at:
                self._growth.keep_ahead()
            if out:
                live.writing_since = self._spoke_at = now
                yield out
                live.writing_since = None
            if reader.error is not None:
                # Tokens that came with it are charged, so they were passed on first.
                raise UpstreamError
            if not out and now - self._spoke_at >= comment_seconds:
                yield from self._comment()
            if reader.limit_reached and not (yield from self._grow()):
                yield reader.closing_chunks()
                return
            if reader.done:
                return

    def _comment(self) -> Generator[bytes, None, None]:
        self.live.raise_if_stopped()
        self._spoke_at = time.monotonic()
        yield sse.KEEPALIVE

    def _read_block(self, data: bytes | None) -> None:
        """Take in bytes for their counts alone."""
        if data and self.live.stream is not None and self.live.stream.status == 200:
            self.reader.limit = None
            self.reader.counts_only = True
            block = self._buffer.feed(data)
            if block:
                self.reader.read(block)

    def _read_what_was_sent(self, stream: LlamaStream) -> None:
        reader = self.reader
        if reader.finish_reason is not None:
            return
        deadline = time.monotonic() + DRAIN_SECONDS
        size = 0
        try:
            if reader.limit_reached:
                # It was waiting for its hold to grow, with more of the answer at hand.
                reader.counts_only = True
                reader.resume(None)
            stream.wait_at_most(DRAIN_SECONDS)
            while not reader.done and size < DRAIN_BYTES and time.monotonic() < deadline:
                data = stream.read()
                if data is None:
                    break
                size += len(data)
                self._read_block(data)
        except (TimeoutError, LlamaError, *MALFORMED):
            # Whatever it is, the stream is over; the counts so far stand.
            pass

    def _counts(self, outcome: str) -> tuple[int, int]:
        reader = self.reader
        _, prompt_tokens, completion_tokens = self.live.counts()
        if outcome != "client_disconnected" and not reader.completion_tokens:
            # The client got nothing for this prompt, and not because it went away.
            prompt_tokens -= reader.prompt_tokens
        return prompt_tokens, completion_tokens

    def _first_token_at(self) -> float | None:
        return self._began_at or self.reader.first_token_at
