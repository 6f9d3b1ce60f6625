"""An application with an interruptible connection to PostgreSQL, and model servers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from promptly.runtime.database import HotPathDatabase
from sandbox.llama import SimulatedLlama
from tests.conftest import AppFactory
from tests.services.metering.meter import Meter
from tests.support.books import Account, BooksReader
from tests.support.stack import Stack
from tests.support.tcp_proxy import TcpProxy, before_postgres


@dataclass
class Cuttable:
    """`meter` always reaches the database; `app` and `database` only while `proxy` is open."""

    proxy: TcpProxy
    app: Flask
    database: HotPathDatabase
    meter: Meter
    account: Account


MakeLlama = Callable[..., SimulatedLlama]


@pytest.fixture
def make_llama(tmp_path: Path) -> Iterator[MakeLlama]:
    """Factory of simulated llama-servers for one test."""
    with Stack(tmp_path) as stack:
        yield stack.simulated_llama


@pytest.fixture
def cuttable(fresh_database: str, redis_url: str, app_factory: AppFactory) -> Iterator[Cuttable]:
    proxy, url = before_postgres(fresh_database)
    books = BooksReader(fresh_database, redis_url)
    app = app_factory(database_url=url, database_timeout_seconds=2, checkpoint_seconds=1)
    account = books.account(paid_tokens=10_000)
    yield Cuttable(proxy, app, app.extensions["hot_path_database"], Meter(books), account)
    proxy.close()
    books.close()
