"""HotPathDatabase: single statements in autocommit, and its errors when PostgreSQL is away."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

from promptly.errors import ServiceUnavailable
from promptly.runtime.database import (
    POOL_SIZE_IN_ALL,
    SILENCE_SECONDS,
    HotPathDatabase,
    connect_args,
)
from tests.support.books import wait_for
from tests.support.servers import make_settings
from tests.support.tcp_proxy import TcpProxy, before_postgres


@pytest.fixture
def proxy_and_database(fresh_database: str) -> Iterator[tuple[TcpProxy, HotPathDatabase]]:
    proxy, url = before_postgres(fresh_database)
    database = HotPathDatabase(make_settings(database_url=url, database_timeout_seconds=2))
    yield proxy, database
    database.dispose()
    proxy.close()


@pytest.fixture
def database(proxy_and_database: tuple[TcpProxy, HotPathDatabase]) -> HotPathDatabase:
    return proxy_and_database[1]


@pytest.fixture
def proxy(proxy_and_database: tuple[TcpProxy, HotPathDatabase]) -> TcpProxy:
    return proxy_and_database[0]


def test_rows(database: HotPathDatabase) -> None:
    series = "SELECT n, %(word)s FROM generate_series(1, %(count)s) AS n"
    assert database.fetch_one(series, {"word": "a", "count": 2}) == (1, "a")
    assert database.fetch_one(series, {"word": "a", "count": 0}) is None
    assert database.fetch_all(series, {"word": "b", "count": 2}) == [(1, "b"), (2, "b")]


def test_each_statement_is_committed(database: HotPathDatabase, fresh_database: str) -> None:
    database.fetch_one(
        "INSERT INTO sweep_states (name, last_run_at) VALUES ('x', now()) RETURNING name", {}
    )
    other = HotPathDatabase(make_settings(database_url=fresh_database))
    assert other.fetch_all("SELECT name FROM sweep_states", {}) == [("x",)]
    other.dispose()


def test_a_wrong_statement_is_a_bug_not_an_absence(database: HotPathDatabase) -> None:
    with pytest.raises(psycopg2.ProgrammingError):
        database.fetch_one("SELECT nothing FROM nowhere", {})
    with pytest.raises(psycopg2.IntegrityError):
        database.fetch_one(
            "INSERT INTO balances (user_id, paid_tokens) VALUES (1, -1) RETURNING user_id", {}
        )
    assert database.fetch_one("SELECT 1", {}) == (1,)


def test_postgres_away_and_back(database: HotPathDatabase, proxy: TcpProxy) -> None:
    assert database.fetch_one("SELECT 1", {}) == (1,)
    proxy.shut()
    for _ in range(3):
        with pytest.raises(ServiceUnavailable) as problem:
            database.fetch_one("SELECT 1", {})
        assert problem.value.status == 503
    proxy.open()
    assert database.fetch_one("SELECT 1", {}) == (1,)


def test_a_look_up_outlives_a_restart_between_two_requests(
    database: HotPathDatabase, proxy: TcpProxy
) -> None:
    assert database.look_up("SELECT 1", {}) == (1,)
    proxy.shut()
    proxy.open()
    assert database.look_up("SELECT 2", {}) == (2,)
    proxy.shut()
    with pytest.raises(ServiceUnavailable):
        database.look_up("SELECT 3", {})


def test_all_kept_connections_are_replaced(database: HotPathDatabase, proxy: TcpProxy) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: database.fetch_one("SELECT pg_sleep(0.05)", {}), range(8)))
    proxy.shut()
    with pytest.raises(ServiceUnavailable):
        database.fetch_one("SELECT 1", {})
    proxy.open()
    assert [database.fetch_one("SELECT 1", {}) for _ in range(10)] == [(1,)] * 10


def test_a_session_that_the_server_ended(database: HotPathDatabase, fresh_database: str) -> None:
    assert database.fetch_one("SELECT 1", {})
    other = HotPathDatabase(make_settings(database_url=fresh_database))
    other.fetch_all(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        {},
    )
    other.dispose()
    with pytest.raises(ServiceUnavailable):
        database.fetch_one("SELECT 1", {})
    assert database.fetch_one("SELECT 1", {}) == (1,)


def test_an_exhausted_pool_is_reported_in_time(fresh_database: str) -> None:
    database = HotPathDatabase(
        make_settings(database_url=fresh_database, database_timeout_seconds=1)
    )
    with ThreadPoolExecutor(12) as pool:
        busy = [pool.submit(database.fetch_one, "SELECT pg_sleep(3)", {}) for _ in range(12)]
        wait_for(lambda: database._pool._places._value == 0, "all places taken")
        # Without a limit it would wait for a place, and succeed.
        with pytest.raises(ServiceUnavailable):
            database.fetch_one("SELECT 1", {})
        for future in busy:
            future.result(20)
    assert database.fetch_one("SELECT 1", {}) == (1,)
    database.dispose()


def test_the_server_ends_statements_that_the_client_gave_up(database: HotPathDatabase) -> None:
    assert "statement_timeout=60000" in connect_args(make_settings())["options"]
    assert database.fetch_one("SHOW statement_timeout", {}) == ("24s",)
    assert database.fetch_one("SHOW timezone", {}) == ("UTC",)


def test_times_are_utc_even_if_a_pooler_drops_the_options(fresh_database: str) -> None:
    arguments = {**connect_args(make_settings()), "options": "-c timezone=Asia/Tokyo"}
    with closing(psycopg2.connect(fresh_database, **arguments)) as connection:
        cursor = connection.cursor()
        # A startup parameter of its own, which comes after `options`, as it does after the role's.
        cursor.execute("SELECT setting, source FROM pg_settings WHERE name = 'TimeZone'")
        assert cursor.fetchone() == ("UTC", "client")


def test_a_peer_that_is_gone_is_noticed_in_time(fresh_database: str) -> None:
    with closing(psycopg2.connect(fresh_database, **connect_args(make_settings()))) as connection:
        assert connection.info.dsn_parameters["tcp_user_timeout"] == str(SILENCE_SECONDS * 1000)
    assert SILENCE_SECONDS < 60


def test_a_transaction_may_not_wait_for_its_client(fresh_database: str) -> None:
    settings = make_settings(database_url=fresh_database, database_timeout_seconds=5)
    database = HotPathDatabase(settings)
    assert database.fetch_one("SHOW idle_in_transaction_session_timeout", {}) == ("30s",)
    database.dispose()


def test_the_pools_share_22_connections() -> None:
    assert POOL_SIZE_IN_ALL == 22
