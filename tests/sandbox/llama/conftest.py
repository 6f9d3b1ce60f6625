"""Fixtures: one simulated llama-server per module, cleared before each test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sandbox.llama import SimulatedLlama
from tests.sandbox.llama.wire import RawStream, sim

OpenStream = Callable[..., RawStream]


@pytest.fixture(scope="module")
def running_llama() -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(slots=2, ctx=10_000, ping_interval=0.2).start()
    yield server
    server.stop()


@pytest.fixture
def llama(running_llama: SimulatedLlama) -> SimulatedLlama:
    running_llama.clear()
    return running_llama


@pytest.fixture
def open_stream(llama: SimulatedLlama) -> Iterator[OpenStream]:
    """Factory for raw streams with directives; all are closed after the test."""
    opened: list[RawStream] = []

    def build(directives: str, **body: Any) -> RawStream:
        asked = {"timings_per_token": True, "return_progress": True, **body}
        opened.append(RawStream(llama.url, messages=sim(directives), **asked))
        return opened[-1]

    yield build
    for raw in opened:
        raw.close()
