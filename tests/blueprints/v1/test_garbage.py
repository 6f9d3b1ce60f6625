"""A request leaves nothing to the garbage collector: its prompt and answer are freed at once.

Objects that refer to each other stay until the collector runs, which is rarely: prompts of 1 MB
took 300 MiB of a worker before it did.
"""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from promptly.clients.llama import LlamaStream
from promptly.gateway.body_budget import BodyShare
from promptly.gateway.chunks import ChunkReader
from promptly.gateway.disconnects import ClientWatch
from promptly.gateway.embedding import Embedding
from promptly.gateway.hold_placement import PlacedHold
from promptly.gateway.in_flight import InFlightRequest
from promptly.gateway.relay import Relay
from promptly.gateway.running_hold import RunningHold
from promptly.gateway.sse import EventBuffer
from promptly.services.metering import Charge
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Json, sim
from tests.conftest import AppFactory
from tests.support import factories

KINDS = (
    BodyShare,
    Charge,
    ChunkReader,
    ClientWatch,
    Embedding,
    EventBuffer,
    InFlightRequest,
    LlamaStream,
    PlacedHold,
    Relay,
    RunningHold,
)


@pytest.fixture
def app(app_factory: AppFactory, simulated_llama: SimulatedLlama) -> Flask:
    return app_factory(llama_base_url=(simulated_llama.url,))


@pytest.fixture
def key(app: Flask) -> str:
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=100_000)
        return factories.api_key(user.id)[1]


@pytest.fixture
def collected() -> Iterator[list[Any]]:
    """All that the collector finds in this test; it runs only when told."""
    gc.collect()
    # Only what this test makes is looked through.
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


def is_of_a_request(kind: type) -> bool:
    return kind.__module__.startswith("promptly.gateway.dialects.") or kind in KINDS


def left_over(collected: list[Any]) -> list[str]:
    """Collect garbage; return the kinds of a request's objects in it."""
    gc.collect()
    kinds = {type(found) for found in collected if is_of_a_request(type(found))}
    collected.clear()
    gc.set_debug(0)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    return sorted(kind.__name__ for kind in kinds)


def chat(directives: str) -> Json:
    return {"messages": sim(directives)}


def steered(field: str) -> Callable[[str], Json]:
    return lambda directives: {field: sim(directives)[0]["content"]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", chat),
        ("completions", steered("prompt")),
        ("messages", lambda directives: {**chat(directives), "max_tokens": 100}),
        ("responses", steered("input")),
        ("embeddings", steered("input")),
    ],
)
def test_nothing_of_a_request_waits_for_the_collector(
    app: Flask, key: str, collected: list[Any], path: str, body: Callable[[str], Json]
) -> None:
    def send(fields: Json, *, reads: bool = True) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        answer = app.test_client().post(f"/v1/{path}", json=fields, headers=headers, buffered=reads)
        if not reads:
            next(iter(answer.response))
        answer.close()
        return answer.status_code

    left = {}
    for directives in ("tokens=5", "eof_after=2", "error_after=2", "status=400", "status=503"):
        for streamed in (False, True):
            send(body(directives) | ({"stream": True} if streamed else {}))
            left[directives, streamed] = left_over(collected)
    assert send({}) == 400
    left["malformed", False] = left_over(collected)
    if path != "embeddings":
        assert send({**body("tokens=50"), "stream": True}, reads=False) == 200
        left["left early", True] = left_over(collected)
    assert {case: kinds for case, kinds in left.items() if kinds} == {}
