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
from promptly.gateway.hold_growth import HoldGrowth, affordable_limit
from promptly.gateway.hold_placement import PlacedHold, count_prompt, first_output
from promptly.gateway.in_flight import InFlightRequest
from promptly.gateway.metered_request import MeteredRequest
from promptly.gateway.upstream_errors import NoAnswer, refusal
from promptly.services.accounts.authentication import Caller

if TYPE_CHECKING:
    from promptly.gateway import Gateway

# After telling upstream to stop: how long, and how much, is still read of what it had sent.
DRAIN_SECONDS = 2.0
DRAIN_BYTES = 4 * 1024 * 1024

# What reading bytes raises that are no stream of chunks.
MALFORMED = (*chunks.MALFORMED, sse.EventTooLong)


class Relay(MeteredRequest):
    """One metered request for generated text; a subrequest of it is a prompt.

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
        placed: PlacedHold,
        sink: Sink | None,
    ) -> None:
        self._request = request
        self._subrequest = 0
        self._prompt = request.prompts[0]
        self._placed = placed
        self._sink = sink
        held, later = placed.hold.held_tokens, sum(placed.prompt_tokens[1:])
        self.reader = self._make_reader(held - later)
        in_flight = InFlightRequest(request_id, self.reader, held, request.max_tokens)
        in_flight.hold = placed.hold
        in_flight.reserved_tokens = later
        in_flight.subrequests_left = subrequests = len(placed.prompt_tokens)
        super().__init__(
            gateway, caller, endpoint, in_flight, path=self._prompt.path, subrequests=subrequests
        )
        self._growth = HoldGrowth(gateway.settings, gateway.hold_refresher, in_flight, self.reader)
        self._buffer = sse.EventBuffer()
        self._began_at: float | None = None

    def _make_reader(self, held_tokens: int) -> ChunkReader:
        return ChunkReader(
            include_usage=self._request.include_usage, held_tokens=held_tokens, sink=self._sink
        )

    def _body(self, subrequest: int) -> bytes:
        placed, in_flight = self._placed, self.in_flight
        in_flight.max_tokens = affordable_limit(
            in_flight,
            placed.hold,
            placed.prompt_tokens[subrequest] if placed.counted else None,
            self._request.max_tokens,
        )
        return self._prompt.upstream_body(in_flight.max_tokens)

    def _go_on(self, subrequest: int) -> Generator[bytes, None, bool]:
        """Begin the next prompt, or end it all where the balance ends."""
        if not self.reader.limit_reached:
            if subrequest == self._subrequests:
                return True
            self.in_flight.raise_if_stopped()
            if (yield from self._cover(subrequest)) or (
                self._count_from(subrequest) and (yield from self._cover(subrequest))
            ):
                self._begin(subrequest)
                return True
        for _ in range(subrequest, self._subrequests):
            yield self._make_reader(0).closing_chunks()
        return False

    def _cover(self, subrequest: int) -> Generator[bytes, None, bool]:
        """Wait until the hold covers the prompts from this one on, and a token of output."""
        covered = self._reserved(subrequest) + self._placed.prompt_tokens[subrequest]
        output = first_output(
            self._request.max_tokens,
            self._subrequests - subrequest,
            self._settings.hold_quantum_tokens,
        )
        return (yield from self._growth.cover(covered + 1, covered + output))

    def _reserved(self, subrequest: int) -> int:
        """What of the hold is not for this subrequest, which is about to begin."""
        _, prompt_tokens, completion_tokens = self.in_flight.counts()
        return prompt_tokens + completion_tokens + sum(self._placed.prompt_tokens[subrequest + 1 :])

    def _begin(self, subrequest: int) -> None:
        reserved = self._reserved(subrequest)
        self._subrequest = subrequest
        self._prompt = self._request.prompts[subrequest]
        self._began_at = self._first_token_at()
        self._buffer = sse.EventBuffer()
        self.reader = self._make_reader(self.in_flight.held_tokens - reserved)
        self._growth.reader = self.reader
        self.in_flight.begin_subrequest(self.reader, reserved)

    def _count_from(self, subrequest: int) -> bool:
        """Count the prompts from this one on, if they are only bounded; False if that is no help.

        Their bounds are several times as large: too much to set aside when the balance ends.
        """
        placed, prompts = self._placed, self._request.prompts
        if placed.counted or subrequest == self._subrequests:
            return False
        try:
            counted = [count_prompt(self._gateway, prompt) for prompt in prompts[subrequest:]]
        except PromptlyError:
            return False
        self.in_flight.reserved_tokens += sum(counted) - sum(placed.prompt_tokens[subrequest:])
        placed.prompt_tokens[subrequest:] = counted
        placed.counted = True
        return True

    def _grow(self) -> Generator[bytes, None, bool]:
        """The hold is used up: wait for more; False when the balance ends here."""
        if (yield from self._growth.grow()):
            return True
        if not self._count_from(self._subrequest + 1):
            return False
        self.in_flight.set_limits(self._settings.hold_quantum_tokens)
        return (yield from self._growth.grow())

    def _answer(self, stream: LlamaStream) -> Generator[bytes, None, None]:
        """Relay one upstream's answer; the body of the house."""
        reader, in_flight, feed = self.reader, self.in_flight, self._buffer.feed
        comment_seconds = self._settings.keepalive_comment_seconds
        stream.wait_at_most(comment_seconds)
        while True:
            try:
                data = stream.read()
            except TimeoutError:
                yield from self._comment()
                continue
            except LlamaError as problem:
                self.in_flight.raise_if_stopped()
                if reader.finish_reason is not None:
                    return
                if stream.status is None:
                    raise NoAnswer(UpstreamError()) from problem
                raise UpstreamError from problem
            now = in_flight.touched_at = time.monotonic()
            if in_flight.stop_reason is not None:
                self._read_block(data)
                self.in_flight.raise_if_stopped()
            if stream.status != 200 and stream.status is not None:
                raise refusal(stream, data, self._prompt)
            if data is None:
                self.in_flight.raise_if_stopped()
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
            if reader.completion_tokens >= in_flight.attention_at:
                self._growth.keep_ahead()
            if out:
                in_flight.writing_since = self._spoke_at = now
                yield out
                in_flight.writing_since = None
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
        self.in_flight.raise_if_stopped()
        self._spoke_at = time.monotonic()
        yield sse.KEEPALIVE

    def _read_block(self, data: bytes | None) -> None:
        """Take in bytes for their counts alone."""
        if data and self.in_flight.stream is not None and self.in_flight.stream.status == 200:
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
        _, prompt_tokens, completion_tokens = self.in_flight.counts()
        if outcome != "client_disconnected" and not reader.completion_tokens:
            # The client got nothing for this prompt, and not because it went away.
            prompt_tokens -= reader.prompt_tokens
        return prompt_tokens, completion_tokens

    def _first_token_at(self) -> float | None:
        return self._began_at or self.reader.first_token_at
