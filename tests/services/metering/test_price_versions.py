"""Versions of prices: a change ends one and starts the next, and no version is ever altered."""

import threading
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from promptly.models import AuditEntry
from promptly.prices import DEFAULT, Price, parse_prices
from promptly.services import audit
from promptly.services.metering import price_versions
from promptly.transactions import transaction
from tests.conftest import AppFactory


@pytest.fixture
def app(fresh_database: str, app_factory: AppFactory) -> Iterator[Flask]:
    app = app_factory(database_url=fresh_database)
    with app.app_context():
        yield app


def put(prices: str) -> bool:
    with transaction():
        return price_versions.put_in_force(parse_prices(prices))


def in_force(app: Flask) -> dict[str, Price]:
    return price_versions.in_force(app.extensions["hot_path_database"])


def changes() -> list[AuditEntry]:
    return audit.entries(action="prices.change").rows


def test_a_new_installation_charges_what_is_counted(app: Flask) -> None:
    assert in_force(app) == {"*": DEFAULT}
    assert in_force(app)["*"].id == DEFAULT.id
    assert not put("*:100:100:100")
    assert changes() == []


def test_a_change_ends_the_version_before(app: Flask) -> None:
    assert put("*:150:25:333,big:200:100:400")
    assert not put("big:200:100:400,*:150:25:333")
    assert put("*:150:25:333,big:200:100:500,free:0:0:0")
    assert put("*:150:25:333")
    assert in_force(app) == {"*": Price(150, 25, 333)}
    with transaction():
        versions = [
            (version.model, str(version.price), version.valid_until is None)
            for version in price_versions.history()
        ]
        of_big = [version for version in price_versions.history() if version.model == "big"]
    assert versions[0] == ("*", "150:25:333", True)
    assert sorted(versions[1:]) == [
        ("*", "100:100:100", False),
        ("big", "200:100:400", False),
        ("big", "200:100:500", False),
        ("free", "0:0:0", False),
    ]
    second, first = of_big
    assert first.valid_until == second.valid_from
    newest = changes()[1]
    assert newest.actor == "system"
    assert newest.before == {"big": "200:100:400"}
    assert newest.after == {"big": "200:100:500", "free": "0:0:0"}


def test_gateways_that_start_together_write_it_once(app: Flask) -> None:
    def start() -> None:
        with app.app_context():
            done.append(put("*:150:25:333"))

    done: list[bool] = []
    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, False, False, True]
    assert len(changes()) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE prices SET output = 1",
        "UPDATE prices SET valid_until = now(), input = 1",
        "DELETE FROM prices",
        "TRUNCATE prices",
        # An end, once entered, stays.
        "UPDATE prices SET valid_until = now(); UPDATE prices SET valid_until = NULL",
    ],
)
def test_a_version_stays_as_it_is(app: Flask, statement: str) -> None:
    with pytest.raises(DBAPIError, match="only ended"), transaction() as session:
        session.execute(text(statement))
