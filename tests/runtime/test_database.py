"""The fast lane: single statements in autocommit, and what it says when PostgreSQL is away."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from promptly.errors import ServiceUnavailable
from promptly.runtime.database import FastLane, connect_args
from tests.books import wait_for
from tests.gate import Gate, before_postgres
from tests.servers import make_settings


@pytest.fixture
def gate_and_lane(fresh_database: str) -> Iterator[tuple[Gate, FastLane]]:
    gate, url = before_postgres(fresh_database)
    lane = FastLane(make_settings(database_url=url, database_timeout_seconds=2))
    yield gate, lane
    lane.dispose()
    gate.close()


@pytest.fixture
def lane(gate_and_lane: tuple[Gate, FastLane]) -> FastLane:
    return gate_and_lane[1]


@pytest.fixture
def gate(gate_and_lane: tuple[Gate, FastLane]) -> Gate:
    return gate_and_lane[0]


def test_rows(lane: FastLane) -> None:
    series = "SELECT n, %(word)s FROM generate_series(1, %(count)s) AS n"
    assert lane.fetch_one(series, {"word": "a", "count": 2}) == (1, "a")
    assert lane.fetch_one(series, {"word": "a", "count": 0}) is None
    assert lane.fetch_all(series, {"word": "b", "count": 2}) == [(1, "b"), (2, "b")]


def test_each_statement_is_committed(lane: FastLane, fresh_database: str) -> None:
    lane.fetch_one(
        "INSERT INTO sweep_states (name, last_run_at) VALUES ('x', now()) RETURNING name", {}
    )
    other = FastLane(make_settings(database_url=fresh_database))
    assert other.fetch_all("SELECT name FROM sweep_states", {}) == [("x",)]
    other.dispose()


def test_a_wrong_statement_is_a_bug_not_an_absence(lane: FastLane) -> None:
    with pytest.raises(psycopg2.ProgrammingError):
        lane.fetch_one("SELECT nothing FROM nowhere", {})
    with pytest.raises(psycopg2.IntegrityError):
        lane.fetch_one(
            "INSERT INTO balances (user_id, paid_tokens) VALUES (1, -1) RETURNING user_id", {}
        )
    assert lane.fetch_one("SELECT 1", {}) == (1,)


def test_postgres_away_and_back(lane: FastLane, gate: Gate) -> None:
    assert lane.fetch_one("SELECT 1", {}) == (1,)
    gate.shut()
    for _ in range(3):
        with pytest.raises(ServiceUnavailable) as problem:
            lane.fetch_one("SELECT 1", {})
        assert problem.value.status == 503
    gate.open()
    assert lane.fetch_one("SELECT 1", {}) == (1,)


def test_a_look_up_outlives_a_restart_between_two_requests(lane: FastLane, gate: Gate) -> None:
    assert lane.look_up("SELECT 1", {}) == (1,)
    gate.shut()
    gate.open()
    assert lane.look_up("SELECT 2", {}) == (2,)
    gate.shut()
    with pytest.raises(ServiceUnavailable):
        lane.look_up("SELECT 3", {})


def test_all_kept_connections_are_replaced(lane: FastLane, gate: Gate) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: lane.fetch_one("SELECT pg_sleep(0.05)", {}), range(8)))
    gate.shut()
    with pytest.raises(ServiceUnavailable):
        lane.fetch_one("SELECT 1", {})
    gate.open()
    assert [lane.fetch_one("SELECT 1", {}) for _ in range(10)] == [(1,)] * 10


def test_a_session_that_the_server_ended(lane: FastLane, fresh_database: str) -> None:
    assert lane.fetch_one("SELECT 1", {})
    other = FastLane(make_settings(database_url=fresh_database))
    other.fetch_all(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        {},
    )
    other.dispose()
    with pytest.raises(ServiceUnavailable):
        lane.fetch_one("SELECT 1", {})
    assert lane.fetch_one("SELECT 1", {}) == (1,)


def test_a_pool_that_is_used_up_is_said_in_time(fresh_database: str) -> None:
    lane = FastLane(make_settings(database_url=fresh_database, database_timeout_seconds=1))
    with ThreadPoolExecutor(12) as pool:
        busy = [pool.submit(lane.fetch_one, "SELECT pg_sleep(3)", {}) for _ in range(12)]
        wait_for(lambda: lane._pool._places._value == 0, "all places taken")
        started = time.monotonic()
        with pytest.raises(ServiceUnavailable):
            lane.fetch_one("SELECT 1", {})
        assert time.monotonic() - started < 2.0
        for future in busy:
            future.result(20)
    assert lane.fetch_one("SELECT 1", {}) == (1,)
    lane.dispose()


def test_the_server_cuts_what_the_client_gave_up(lane: FastLane) -> None:
    assert "statement_timeout=60000" in connect_args(make_settings())["options"]
    assert lane.fetch_one("SHOW statement_timeout", {}) == ("24s",)
    assert lane.fetch_one("SHOW timezone", {}) == ("UTC",)
