"""Serving a parsed request of any dialect: all of them share one path through metering."""

from collections.abc import Callable, Iterator

import orjson

from promptly.blueprints.v1 import guard
from promptly.blueprints.v1.answers import Answer, as_json
from promptly.blueprints.v1.api_request import ApiRequest
from promptly.blueprints.v1.counting import prompt_counter
from promptly.errors import PromptlyError
from promptly.gateway import hold_at_once, hold_placement
from promptly.gateway.dialects import Sink, StreamedAnswer, WholeAnswer
from promptly.gateway.dialects.embeddings.request import EmbeddingsRequest
from promptly.gateway.disconnects import ClientWatch
from promptly.gateway.embedding import Embedding
from promptly.gateway.generation import GenerationRequest
from promptly.gateway.metered_request import MeteredRequest
from promptly.gateway.relay import Relay
from promptly.gateway.session_headers import session_of
from promptly.models.states import Outcome
from promptly.runtime import request_metrics


def serve_stream(
    request: ApiRequest, endpoint: str, generation: GenerationRequest, answer: StreamedAnswer
) -> Answer:
    """Answer with server-sent events as they arrive; `endpoint` is recorded in the usage event."""
    relay = _start(request, endpoint, generation, answer.sink)
    headers = (
        *_headers(request, generation.ignored),
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
    )
    return Answer(200, headers, StreamBody(relay, answer, _watch(request, relay)))


def serve_whole(
    request: ApiRequest, endpoint: str, generation: GenerationRequest, answer: WholeAnswer
) -> Answer:
    """Answer with one JSON object; `endpoint` is recorded in the usage event."""
    relay = _start(request, endpoint, generation, answer.add, collects=True)
    return _run(request, relay, generation.ignored, lambda: orjson.dumps(answer.build()))


def serve_embeddings(request: ApiRequest, endpoint: str, asked: EmbeddingsRequest) -> Answer:
    """Answer with a list of vectors; `endpoint` is recorded in the usage event."""
    gateway, caller = request.gateway, request.caller
    model = gateway.model_names.resolve_for(caller, asked.model, asked.path)
    hold = hold_placement.place_exactly(
        gateway,
        caller,
        request.uuid,
        endpoint,
        asked,
        asked.bounds,
        model,
        prompt_counter(request),
    )
    embedding = Embedding(gateway, caller, endpoint, asked, hold, model, request.hand_over_body())
    return _run(request, embedding, asked.ignored, embedding.answer)


def _start(
    request: ApiRequest,
    endpoint: str,
    generation: GenerationRequest,
    sink: Sink | None,
    *,
    collects: bool = False,
) -> Relay:
    """Place a hold for the request's cost, and create its relay."""
    gateway = request.gateway
    placed = hold_at_once.place(gateway, request.caller, request.uuid, endpoint, generation)
    if placed is None:
        guard.prove(request)
        placed = hold_placement.place(
            gateway, request.caller, request.uuid, endpoint, generation, prompt_counter(request)
        )
    session, share = session_of(request.environ), request.hand_over_body()
    return Relay(
        gateway,
        request.caller,
        endpoint,
        generation,
        placed,
        sink,
        share,
        session,
        collects=collects,
    )


def _run(
    request: ApiRequest,
    metered: MeteredRequest,
    ignored: tuple[str, ...],
    build: Callable[[], bytes],
) -> Answer:
    """Run a request until it is settled, then build its answer."""
    watch = _watch(request, metered)
    try:
        metered.run()
    finally:
        watch.stop()
    headers = _headers(request, ignored)
    if metered.charge is not None:
        headers.append(("x-promptly-charged-tokens", str(metered.charge.charged_tokens)))
        headers.append(("x-promptly-balance-tokens", str(metered.charge.balance_tokens)))
    return as_json(build(), headers)


def _watch(request: ApiRequest, metered: MeteredRequest) -> ClientWatch:
    watch = ClientWatch(
        request.environ, lambda: metered.in_flight.stop(Outcome.CLIENT_DISCONNECTED)
    )
    metered.in_flight.hang_up = watch.hang_up
    return watch


def _headers(request: ApiRequest, ignored: tuple[str, ...]) -> list[tuple[str, str]]:
    headers = [("x-promptly-request-id", request.id)]
    if ignored:
        headers.append(("x-promptly-ignored", ", ".join(ignored)))
    return headers


class StreamBody:
    """Body of a streamed answer; an error after its first bytes is sent in the dialect's form."""

    __slots__ = ("_answer", "_events", "_first", "_is_open", "_watch")

    def __init__(self, relay: Relay, answer: StreamedAnswer, watch: ClientWatch) -> None:
        self._answer = answer
        self._watch = watch
        self._events = relay.events()
        try:
            # An error up to here can still be answered with its own HTTP status.
            self._first = next(self._events, b"")
        except BaseException:
            watch.stop()
            raise
        self._is_open = True
        request_metrics.streams_open.add()

    def __iter__(self) -> Iterator[bytes]:
        if self._first:
            yield self._first
        try:
            yield from self._events
        except PromptlyError as problem:
            # Too late for `refuse`, which counts the others.
            if problem.limit is not None:
                request_metrics.count_limit(problem.limit)
            request_metrics.count_refusal(problem)
            yield self._answer.failed(problem)
            return
        yield self._answer.end()

    def close(self) -> None:
        """Release the request; called by the server when all is sent or the client is gone."""
        if self._is_open:
            self._is_open = False
            request_metrics.streams_open.add(-1)
        self._watch.stop()
        self._events.close()
