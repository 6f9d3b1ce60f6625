"""An application whose way to PostgreSQL can be cut, and model servers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from promptly.runtime.database import FastLane
from promptly.sandbox.llama import SimulatedLlama
from tests.books import Account, Books
from tests.conftest import AppFactory
from tests.gate import Gate, before_postgres
from tests.services.metering.meter import Meter


@dataclass
class Cuttable:
    """`meter` always reaches the database, `app` and `lane` only while `gate` is open."""

    gate: Gate
    app: Flask
    lane: FastLane
    meter: Meter
    account: Account


MakeLlama = Callable[..., SimulatedLlama]


@pytest.fixture
def make_llama(tmp_path: Path) -> Iterator[MakeLlama]:
    """Starts simulated llama-servers of a test's own."""
    made: list[SimulatedLlama] = []

    def make(**options: object) -> SimulatedLlama:
        server = SimulatedLlama(tmp_path / f"llama{len(made)}", **options)  # type: ignore[arg-type]
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def cuttable(fresh_database: str, redis_url: str, app_factory: AppFactory) -> Iterator[Cuttable]:
    gate, url = before_postgres(fresh_database)
    books = Books(fresh_database, redis_url)
    app = app_factory(database_url=url, database_timeout_seconds=2, checkpoint_seconds=1)
    account = books.account(paid_tokens=10_000)
    yield Cuttable(gate, app, app.extensions["fast_lane"], Meter(books), account)
    gate.close()
    books.close()
