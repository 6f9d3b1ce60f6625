"""Serving a parsed request of any dialect: all of them share one path through metering."""

from collections.abc import Callable, Iterator

import orjson
from flask import Response, g, request

from promptly.blueprints.v1 import guard
from promptly.blueprints.v1.body import hand_over
from promptly.blueprints.v1.counting import prompt_counter
from promptly.errors import PromptlyError
from promptly.gateway import current_gateway, hold_at_once, hold_placement
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


def serve_stream(endpoint: str, generation: GenerationRequest, answer: StreamedAnswer) -> Response:
    """Answer with server-sent events as they arrive; `endpoint` is recorded in the usage event."""
    relay = _start(endpoint, generation, answer.sink)
    headers = {
        **_standing_headers(generation.ignored),
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
    }
    body = StreamBody(relay, answer, _watch(relay))
    return Response(body, headers=headers, direct_passthrough=True)


def serve_whole(endpoint: str, generation: GenerationRequest, answer: WholeAnswer) -> Response:
    """Answer with one JSON object; `endpoint` is recorded in the usage event."""
    relay = _start(endpoint, generation, answer.add)
    return _run(relay, generation.ignored, lambda: orjson.dumps(answer.build()))


def serve_embeddings(endpoint: str, asked: EmbeddingsRequest) -> Response:
    """Answer with a list of vectors; `endpoint` is recorded in the usage event."""
    gateway, caller = current_gateway(), guard.caller()
    model = gateway.model_names.resolve_for(caller, asked.model, asked.path)
    hold = hold_placement.place_exactly(
        gateway,
        caller,
        g.request_uuid,
        endpoint,
        asked,
        asked.bounds,
        model,
        prompt_counter(gateway, caller),
    )
    embedding = Embedding(gateway, caller, endpoint, asked, hold, model, hand_over())
    return _run(embedding, asked.ignored, embedding.answer)


def _start(endpoint: str, generation: GenerationRequest, sink: Sink | None) -> Relay:
    """Place a hold for the request's cost, and create its relay."""
    gateway, caller = current_gateway(), guard.caller()
    placed = hold_at_once.place(gateway, caller, g.request_uuid, endpoint, generation)
    if placed is None:
        caller = guard.proven_caller()
        counter = prompt_counter(gateway, caller)
        placed = hold_placement.place(
            gateway, caller, g.request_uuid, endpoint, generation, counter
        )
    session = session_of(request.environ)
    return Relay(gateway, caller, endpoint, generation, placed, sink, hand_over(), session)


def _run(metered: MeteredRequest, ignored: tuple[str, ...], build: Callable[[], bytes]) -> Response:
    """Run a request until it is settled, then build its answer."""
    headers = _standing_headers(ignored)
    watch = _watch(metered)
    try:
        metered.run()
    finally:
        watch.stop()
    if metered.charge is not None:
        headers["x-promptly-charged-tokens"] = str(metered.charge.charged_tokens)
        headers["x-promptly-balance-tokens"] = str(metered.charge.balance_tokens)
    return Response(build(), headers=headers, mimetype="application/json")


def _watch(metered: MeteredRequest) -> ClientWatch:
    watch = ClientWatch(
        request.environ, lambda: metered.in_flight.stop(Outcome.CLIENT_DISCONNECTED)
    )
    metered.in_flight.hang_up = watch.hang_up
    return watch


def _standing_headers(ignored: tuple[str, ...]) -> dict[str, str]:
    headers = {"x-promptly-request-id": g.request_id}
    if ignored:
        headers["x-promptly-ignored"] = ", ".join(ignored)
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
            # Too late for the error handlers, which count the others.
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
