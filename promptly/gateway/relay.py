"""Relays generated text from upstream to the client, counts it and grows its hold.

`Relay.events` yields the client's bytes for one chat, or for several prompts one after the other.
"""

import time
from collections.abc import Generator

from promptly.clients.llama import LlamaError, LlamaStream
from promptly.errors import PromptlyError, UpstreamError
from promptly.gateway import Gateway, chunks, sse
from promptly.gateway.body_budget import BodyShare
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.context_lengths import too_small
from promptly.gateway.dialects import Sink
from promptly.gateway.generation import GenerationRequest
from promptly.gateway.hold_placement import PlacedHold, first_output
from promptly.gateway.in_flight import InFlightRequest
from promptly.gateway.metered_request import MeteredRequest
from promptly.gateway.prefix_chain import PrefixLink
from promptly.gateway.prompt_counting import PromptCounter
from promptly.gateway.running_hold import RunningHold
from promptly.gateway.slots.requests import BYTES_PER_TOKEN, Lease
from promptly.gateway.upstream_errors import BrokeOff, refusal
from promptly.models.states import Outcome
from promptly.prices import rounded_up
from promptly.services import metering
from promptly.services.accounts.authentication import Caller

# After a stop: bounds for reading the bytes that upstream had already sent.
DRAIN_SECONDS = 2.0
DRAIN_BYTES = 4 * 1024 * 1024

# Smaller prompts stay in memory until their request ends.
LARGE_PROMPT_BYTES = 64 * 1024

# Exceptions raised by bytes that are not a stream of chunks.
MALFORMED = (*chunks.MALFORMED, sse.EventTooLong)


class Relay(MeteredRequest):
    """One metered request for generated text, with a subrequest for each prompt.

    The hold also covers the prompts still to come. Where the balance ends, the current answer ends;
    the later answers are empty: they do not run and cost nothing. `session` is the client's name
    for the conversation, from its headers. A `sink` that `collects` answers later, as a whole.
    """

    def __init__(
        self,
        gateway: Gateway,
        caller: Caller,
        endpoint: str,
        request: GenerationRequest,
        placed: PlacedHold,
        sink: Sink | None,
        body_share: BodyShare,
        session: str = "",
        *,
        collects: bool = False,
    ) -> None:
        self._request = request
        self._collects = collects
        self._session = session
        self._subrequest = 0
        # Of the current prompt, whose text is gone: the server may still die of it.
        self._dropped_digest: str | None = None
        self._prompt = request.prompts[0]
        self._placed = placed
        self._sink = sink
        self._price = placed.hold.price
        self._spoke_at = time.monotonic()
        subrequests = len(placed.prompt_tokens)
        self._hold = RunningHold(
            placed.hold,
            gateway.settings,
            gateway.hold_refresher.request_adjustment,
            max_tokens=request.max_tokens,
            subrequests=subrequests,
            reserved_hundredths=sum(placed.prompt_tokens[1:]) * self._price.dearest_input,
        )
        self.reader = self._make_reader()
        self._hold.start(self.reader)
        super().__init__(
            gateway,
            caller,
            endpoint,
            InFlightRequest(self._hold),
            body_share,
            path=self._prompt.path,
            model=placed.model,
            model_name=request.model,
            subrequests=subrequests,
        )
        self._buffer = sse.EventBuffer()
        self._first_token_seen_at: float | None = None

    def _make_reader(self) -> ChunkReader:
        return ChunkReader(
            include_usage=self._request.include_usage,
            output_limit=self._hold.output_limit,
            sink=self._sink,
            collects=self._collects,
        )

    def _body(self, subrequest: int, lease: Lease) -> bytes:
        placed = self._placed
        counted = placed.prompt_tokens[subrequest] if placed.counted else None
        self.reader.owns_cache = lease.owns_cache
        limit = self._hold.limit_output(
            counted, self._request.max_tokens, owns_cache=lease.owns_cache
        )
        return self._prompt.upstream_body(limit, lease.fields())

    def _chain(self) -> tuple[PrefixLink, ...]:
        return self._gateway.prefix_chains.links(
            self._prompt.prefix, self._caller.user_id, self._session
        )

    def _prompt_tokens(self, subrequest: int) -> int:
        tokens = self._placed.prompt_tokens[subrequest]
        return tokens if self._placed.counted else tokens // BYTES_PER_TOKEN

    def _too_small(self, subrequest: int) -> frozenset[str]:
        return too_small(
            self._gateway.pool.ready(self._path, self._model),
            self._placed.prompt_tokens[subrequest],
            self._request.max_tokens,
        )

    def _digest(self, subrequest: int) -> str:
        if self._dropped_digest is not None and subrequest == self._subrequest:
            return self._dropped_digest
        body = self._request.prompts[subrequest].upstream_body(None)
        return self._gateway.fatal_bodies.digest(body)

    def _go_on(self, subrequest: int) -> Generator[bytes, None, bool]:
        """Start the next prompt, or end the request where the balance ends."""
        if not self.reader.limit_reached:
            if subrequest == self._subrequests:
                return True
            self.in_flight.raise_if_stopped()
            if (yield from self._cover(subrequest)) or (
                self._count_from(subrequest) and (yield from self._cover(subrequest))
            ):
                self._start_subrequest(subrequest)
                return True
        for _ in range(subrequest, self._subrequests):
            yield self._make_reader().closing_chunks()
        return False

    def _cover(self, subrequest: int) -> Generator[bytes, None, bool]:
        """Wait until the hold covers the prompts from this one on, and a token of output."""
        price = self._price
        prompt = self._placed.prompt_tokens[subrequest] * price.dearest_input
        covered = self._reserved(subrequest) + prompt
        output = first_output(
            self._request.max_tokens,
            self._subrequests - subrequest,
            self._settings.hold_quantum_tokens,
        )
        least = rounded_up(covered + price.output)
        wanted = rounded_up(covered + output * price.output)
        return (yield from self._hold.cover(self.in_flight, least, wanted))

    def _reserved(self, subrequest: int) -> int:
        """Return what the hold has for others than this subrequest, which is about to start.

        In hundredths of a token.
        """
        counts, price = self._hold.total_counts(), self._price
        later = sum(self._placed.prompt_tokens[subrequest + 1 :])
        return (
            price.prompt(counts.prompt_tokens, counts.cached_prompt_tokens)
            + counts.completion_tokens * price.output
            + later * price.dearest_input
        )

    def _start_subrequest(self, subrequest: int) -> None:
        reserved = self._reserved(subrequest)
        self._subrequest = subrequest
        self._dropped_digest = None
        self._prompt = self._request.prompts[subrequest]
        self._first_token_seen_at = self._first_token_at()
        self._buffer = sse.EventBuffer()
        self.reader = self._make_reader()
        self._hold.start_next(self.reader, reserved)

    def _count_from(self, subrequest: int) -> bool:
        """Count the prompts from this one on, if only their bounds are known.

        Bounds are several times as large as counts: too much to reserve when the balance ends.
        Returns False if there is nothing to count, or if counting fails.
        """
        placed, prompts = self._placed, self._request.prompts
        if placed.counted or subrequest == self._subrequests:
            return False
        counter = PromptCounter(self._gateway, self._caller, self.in_flight.raise_if_stopped)
        try:
            counted = [counter.count(prompt, self._model) for prompt in prompts[subrequest:]]
        except PromptlyError:
            return False
        fewer = sum(placed.prompt_tokens[subrequest:]) - sum(counted)
        self._hold.reserved_hundredths -= fewer * self._price.dearest_input
        placed.prompt_tokens[subrequest:] = counted
        placed.counted = True
        return True

    def _go_beyond_limit(self) -> Generator[bytes, None, bool]:
        """Grow the used-up hold and read on; False when the balance ends here."""
        while self.reader.limit_reached:
            if not (yield from self._grow()):
                return False
            out = self.reader.resume(self.reader.limit)
            if out:
                yield out
        return True

    def _grow(self) -> Generator[bytes, None, bool]:
        if (yield from self._hold.grow(self.in_flight)):
            return True
        if not self._count_from(self._subrequest + 1):
            return False
        self._hold.update_limit()
        return (yield from self._hold.grow(self.in_flight))

    def _answer(self, stream: LlamaStream) -> Generator[bytes, None, None]:
        """Relay one upstream's answer; the loop runs once per chunk."""
        reader, in_flight, hold, feed = self.reader, self.in_flight, self._hold, self._buffer.feed
        comment_seconds = self._settings.keepalive_comment_seconds
        stream.wait_at_most(comment_seconds)
        is_accepted = False
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
                raise BrokeOff(begun=stream.status is not None) from problem
            now = in_flight.touched_at = time.monotonic()
            if in_flight.stop_reason is not None:
                self._read_block(data)
                self.in_flight.raise_if_stopped()
            if not is_accepted and stream.status is not None:
                if stream.status != 200:
                    raise refusal(stream, data, self._prompt)
                is_accepted = True
                self._drop_text()
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
            if reader.completion_tokens >= hold.next_check_at:
                hold.keep_ahead()
            if out:
                in_flight.writing_since = self._spoke_at = now
                yield out
                in_flight.writing_since = None
            if reader.error is not None:
                # Tokens that came with the error are charged, so they were relayed first.
                raise UpstreamError
            if not out and now - self._spoke_at >= comment_seconds:
                yield from self._comment()
            if reader.limit_reached and not (yield from self._go_beyond_limit()):
                yield reader.closing_chunks()
                return
            if reader.done:
                return

    def _drop_text(self) -> None:
        """Free a large prompt's memory: upstream has accepted it, so no other will be asked.

        If the server dies, the digest is still needed. It costs a twentieth of the whole request,
        so the last prompt is kept instead, as long as all those kept are within their bound.
        """
        is_last = self._subrequest == self._subrequests - 1
        if self._prompt.prompt_bound > LARGE_PROMPT_BYTES:
            if is_last and self._body_share.keep():
                return
            self._dropped_digest = self._digest(self._subrequest)
            self._prompt.drop_text()
        if is_last:
            self._body_share.give_back()

    def _comment(self) -> Generator[bytes, None, None]:
        self.in_flight.raise_if_stopped()
        self._spoke_at = time.monotonic()
        yield sse.KEEPALIVE

    def _read_block(self, data: bytes | None) -> None:
        """Read bytes for their counts only."""
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
                # The relay was waiting for its hold to grow, with more of the answer received.
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
            # The stream is over; the counts so far stand.
            pass

    def _counts(self, outcome: Outcome) -> metering.RunningCounts:
        # A client that stayed and got nothing for this prompt pays nothing for it.
        left = outcome == Outcome.CLIENT_DISCONNECTED
        return self._hold.total_counts(with_prompt=left or self.reader.completion_tokens > 0)

    def _end(self, outcome: Outcome) -> None:
        super()._end(outcome)
        self.reader.release_hold()

    def _is_complete(self, stream: LlamaStream) -> bool:
        # Upstream's end of the connection may still be on its way.
        return self.reader.done or stream.complete

    def _first_token_at(self) -> float | None:
        return self._first_token_seen_at or self.reader.first_token_at
