"""Embeddings: vectors for a list of texts, metered by upstream's own counts.

The texts go upstream in batches. A batch keeps a server's slots busy, yet is small enough that
others get their turn, that work stops soon after a client disconnects, and that decoding it holds
up no stream of this process. The answer is sent only when complete, so a request that fails costs
nothing; if its client disconnects, it costs the batches that were done.
"""

import time
from collections.abc import Generator

import msgspec
import orjson

from promptly.clients.llama import LlamaClient, LlamaError, LlamaStream
from promptly.errors import UpstreamError
from promptly.gateway import Gateway
from promptly.gateway.body_budget import BodyShare
from promptly.gateway.counts import count_of
from promptly.gateway.dialects.embeddings.request import EmbeddingsRequest
from promptly.gateway.in_flight import InFlightRequest
from promptly.gateway.metered_request import MeteredRequest
from promptly.gateway.running_hold import RunningHold
from promptly.gateway.slots.requests import BYTES_PER_TOKEN, Lease
from promptly.gateway.upstream_errors import BrokeOff, refusal
from promptly.models.states import Outcome
from promptly.services import metering
from promptly.services.accounts.authentication import Caller

BATCH_INPUTS = 32
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Upstream is silent while it computes: look this often whether the client has disconnected.
LOOK_SECONDS = 1.0


class _Vector(msgspec.Struct):
    index: int
    embedding: msgspec.Raw


class _Usage(msgspec.Struct):
    prompt_tokens: int


class _Answer(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage


_decoder = msgspec.json.Decoder(_Answer)


class Embedding(MeteredRequest):
    """One metered request for embeddings; each batch is a subrequest."""

    def __init__(
        self,
        gateway: Gateway,
        caller: Caller,
        endpoint: str,
        request: EmbeddingsRequest,
        hold: metering.Hold,
        model: str,
        body_share: BodyShare,
    ) -> None:
        self._request = request
        self._vectors: list[bytes] = []
        running = RunningHold(
            hold, gateway.settings, gateway.hold_refresher.request_adjustment, max_tokens=0
        )
        in_flight = InFlightRequest(running)
        in_flight.first_byte_seconds = gateway.settings.embeddings_timeout_seconds
        subrequests = -(-len(request.inputs) // BATCH_INPUTS)
        super().__init__(
            gateway,
            caller,
            endpoint,
            in_flight,
            body_share,
            path=request.path,
            model=model,
            model_name=request.model,
            subrequests=subrequests,
        )

    def _body(self, subrequest: int, lease: Lease) -> bytes:
        # The server chooses the slot: its vectors depend on no cache.
        return self._batch(subrequest)

    def _batch(self, subrequest: int) -> bytes:
        start = subrequest * BATCH_INPUTS
        return self._request.upstream_body(start, start + BATCH_INPUTS)

    def _prompt_tokens(self, subrequest: int) -> int:
        start = subrequest * BATCH_INPUTS
        size = sum(map(len, self._request.inputs[start : start + BATCH_INPUTS]))
        return size // BYTES_PER_TOKEN

    def _send(self, client: LlamaClient, body: bytes) -> LlamaStream:
        return client.post(self._path, body)

    def _digest(self, subrequest: int) -> str:
        return self._gateway.fatal_bodies.digest(self._batch(subrequest))

    def _answer(self, stream: LlamaStream) -> Generator[bytes, None, None]:
        self._take(self._read(stream))
        yield from ()

    def _read(self, stream: LlamaStream) -> bytes:
        """Return the whole body of a 200 answer."""
        in_flight = self.in_flight
        body = bytearray()
        stream.wait_at_most(LOOK_SECONDS)
        while True:
            try:
                data = stream.read()
            except TimeoutError:
                in_flight.raise_if_stopped()
                continue
            except LlamaError as problem:
                in_flight.raise_if_stopped()
                is_stale = stream.is_reused and stream.status is None
                raise BrokeOff(begun=False, is_stale=is_stale) from problem
            in_flight.touched_at = time.monotonic()
            in_flight.raise_if_stopped()
            if stream.status not in (None, 200):
                raise refusal(stream, data, self._request)
            if data is None:
                return bytes(body)
            body += data
            if len(body) > MAX_ANSWER_BYTES:
                raise UpstreamError

    def _take(self, body: bytes) -> None:
        """Keep a batch's vectors and add up its tokens."""
        done = len(self._vectors)
        expected = min(BATCH_INPUTS, len(self._request.inputs) - done)
        try:
            answer = _decoder.decode(body)
        except msgspec.DecodeError as problem:
            raise UpstreamError from problem
        vectors = {vector.index: bytes(vector.embedding) for vector in answer.data}
        if sorted(vectors) != list(range(expected)):
            raise UpstreamError
        self._vectors += [vectors[index] for index in range(expected)]
        self.in_flight.hold.counts.prompt_tokens += count_of(answer.usage.prompt_tokens)

    def _go_on(self, subrequest: int) -> Generator[bytes, None, bool]:
        self.in_flight.raise_if_stopped()
        yield from ()
        return True

    def _read_what_was_sent(self, stream: LlamaStream) -> None:
        """Do nothing: a partial answer has no counts."""

    def _counts(self, outcome: Outcome) -> metering.RunningCounts:
        # A client that got nothing pays nothing, unless it disconnected.
        charged = outcome in (Outcome.COMPLETED, Outcome.CLIENT_DISCONNECTED)
        return self.in_flight.hold.total_counts(with_prompt=charged)

    def answer(self) -> bytes:
        """Build OpenAI's list of vectors, as JSON."""
        tokens = self.in_flight.hold.counts.prompt_tokens
        tail = {"model": self.model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        data = b",".join(
            b'{"object":"embedding","index":%d,"embedding":%b}' % (index, vector)
            for index, vector in enumerate(self._vectors)
        )
        return b'{"object":"list","data":[%b],%b' % (data, orjson.dumps(tail)[1:])
