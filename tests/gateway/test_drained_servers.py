"""A process learns of drained servers from PostgreSQL, and keeps its knowledge without it."""

import time

import pytest
from flask import Flask

from promptly.gateway.drained_servers import REFRESH_SECONDS, TRUSTED_SECONDS, DrainedServers
from promptly.services import drains
from promptly.services.audit import Operator
from promptly.transactions import transaction
from tests.gateway.conftest import Cuttable
from tests.support.books import wait_for

URL = "http://10.0.0.5:8080"
OPERATOR = Operator("cli:ada")


class Clock:
    """Time that passes only when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def change(app: Flask, *, drained: bool) -> None:
    with app.app_context(), transaction():
        (drains.drain if drained else drains.resume)(URL, OPERATOR)


def test_it_is_read_every_few_seconds(app: Flask) -> None:
    servers = DrainedServers(app.extensions["hot_path_database"])
    assert servers.names() == frozenset()
    change(app, drained=True)
    wait_for(lambda: servers.names() == {URL}, "it is drained")
    known = servers.names()
    change(app, drained=False)
    wait_for(lambda: servers.names() == frozenset(), "it is resumed")
    assert known == {URL}


def test_a_request_waits_for_it_only_after_a_time_without_any(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    servers = DrainedServers(app.extensions["hot_path_database"])
    assert servers.names() == frozenset()
    change(app, drained=True)
    clock.now += REFRESH_SECONDS / 2
    assert servers.names() == frozenset()
    clock.now += TRUSTED_SECONDS
    assert servers.names() == {URL}
    assert servers.names() is servers.names()


def test_the_last_known_state_stays_while_postgresql_is_away(
    cuttable: Cuttable, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    servers = DrainedServers(cuttable.database)
    change(cuttable.app, drained=True)
    assert servers.names() == {URL}
    cuttable.proxy.shut()
    clock.now += TRUSTED_SECONDS
    assert servers.names() == {URL}
    # Nobody asks again before the next refresh is due.
    cuttable.proxy.open()
    change(cuttable.app, drained=False)
    clock.now += REFRESH_SECONDS / 2
    assert servers.names() == {URL}
    clock.now += TRUSTED_SECONDS
    assert servers.names() == frozenset()


def test_without_a_database_none_is_drained() -> None:
    assert DrainedServers().names() == frozenset()
