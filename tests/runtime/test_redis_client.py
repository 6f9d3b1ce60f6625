"""HotPathRedis: short timeouts, a circuit breaker, and no reply matched to the wrong command."""

import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection
from limits.storage import storage_from_string

from promptly.runtime import redis_client
from promptly.runtime.celery_app import broker_url
from promptly.runtime.redis_client import (
    LIMITER_CONNECTIONS,
    HotPathRedis,
    RedisRefused,
    RedisUnavailable,
    limiter_options,
    limiter_uri,
)
from promptly.secret import Secret
from sandbox.redis_server import EmbeddedRedis
from tests.support.servers import make_settings


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that the test may stop or kill."""
    made = EmbeddedRedis(tmp_path / "redis")
    made.start()
    yield made
    made.stop()


class Clock:
    """The clock of the redis_client module, advanced only by the test."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now

    def pass_the_pause(self) -> None:
        """Advance past the pause in which Redis is not tried after a failure."""
        self.now += redis_client.PAUSE_SECONDS + 0.001


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(redis_client, "time", made)
    return made


@pytest.fixture
def hot_path(server: EmbeddedRedis) -> HotPathRedis:
    return HotPathRedis(server.url)


def test_every_client_signs_in_with_the_password(server: EmbeddedRedis) -> None:
    password = "p@ss:/w%rd 'x' #$"
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", password)
    settings = make_settings(redis_url=server.url, redis_password=Secret(password))
    assert HotPathRedis(settings.redis_connection_url).command("PING") == b"PONG"
    limits = storage_from_string(limiter_uri(settings.redis_connection_url))
    assert limits.check()
    with Connection(broker_url(settings.redis_connection_url)) as broker:
        broker.ensure_connection(max_retries=1)
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(server.url).ping()


def test_commands_and_scripts(hot_path: HotPathRedis) -> None:
    assert hot_path.command("SET", "a", "1") == b"OK"
    script = hot_path.script("return {KEYS[1], ARGV[1], ARGV[2]}")
    # The first call loads the script, the second calls it by its hash.
    assert [script(["k"], [1, "x"]) for _ in range(2)] == [[b"k", b"1", b"x"]] * 2
    hot_path.command("SCRIPT", "FLUSH")
    assert script(["k"], [2, "y"]) == [b"k", b"2", b"y"]


def test_a_refused_command_does_not_count_as_an_outage(
    hot_path: HotPathRedis, caplog: pytest.LogCaptureFixture
) -> None:
    hot_path.command("SET", "a", "text")
    wrong = hot_path.script("return redis.call('INCR', 'a')")
    with pytest.raises(RedisRefused):
        hot_path.command("INCR", "a")
    with pytest.raises(RedisRefused):
        wrong([], [])
    assert hot_path.command("GET", "a") == b"text"
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "Redis refuses a command: this process continues without it"
    ]


def test_many_threads_get_their_own_answers(hot_path: HotPathRedis) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda number: hot_path.command("ECHO", str(number)), range(500))
        assert [int(answer) for answer in answers] == list(range(500))


def test_an_outage_is_met_once_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_client, "PAUSE_SECONDS", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, caplog.at_level(logging.WARNING):
        hot_path = HotPathRedis(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        for _ in range(200):
            with pytest.raises(RedisUnavailable):
                hot_path.command("PING")
        silent.accept()[0].close()
        # The other commands failed at once, without another attempt.
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert [record.name for record in caplog.records] == ["promptly.runtime.redis_client"]


def test_a_command_that_waits_for_a_connection_hears_of_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_client, "PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(redis_client, "MAX_CONNECTIONS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(4) as pool:
        hot_path = HotPathRedis(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        for waiting in [pool.submit(hot_path.command, "PING") for _ in range(4)]:
            assert isinstance(waiting.exception(timeout=30), RedisUnavailable)
        silent.accept()[0].close()
        # The others did not try for themselves.
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_restart_fails_no_command(hot_path: HotPathRedis, server: EmbeddedRedis) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: hot_path.command("PING"), range(20)))
    server.restart()
    # All idle connections are stale now.
    assert hot_path.command("PING") == b"PONG"


def test_it_is_tried_again_after_a_pause(
    hot_path: HotPathRedis, server: EmbeddedRedis, clock: Clock
) -> None:
    assert hot_path.command("PING") == b"PONG"
    server.kill()
    with pytest.raises(RedisUnavailable):
        hot_path.command("PING")
    server.start()
    with pytest.raises(RedisUnavailable):
        hot_path.command("PING")
    clock.pass_the_pause()
    assert hot_path.command("PING") == b"PONG"


def test_it_is_found_again_after_a_long_absence(
    hot_path: HotPathRedis, server: EmbeddedRedis, clock: Clock
) -> None:
    server.kill()
    # Each attempt makes a connection, of which redis-py's pool allows a hundred.
    for _ in range(101):
        with pytest.raises(RedisUnavailable):
            hot_path.command("PING")
        clock.pass_the_pause()
    server.start()
    assert hot_path.command("PING") == b"PONG"


def test_a_frozen_redis_costs_half_a_second_once(
    hot_path: HotPathRedis, server: EmbeddedRedis, clock: Clock
) -> None:
    assert hot_path.command("ECHO", "before") == b"before"
    server.pause()
    started = time.monotonic()
    with pytest.raises(RedisUnavailable):
        hot_path.command("ECHO", "lost")
    first = time.monotonic() - started
    assert 0.4 < first < 2.0
    with pytest.raises(RedisUnavailable):
        hot_path.command("ECHO", "refused")
    server.resume()
    clock.pass_the_pause()
    # The late reply to "lost" must not be read as the reply to this command.
    assert hot_path.command("ECHO", "after") == b"after"


def test_the_address_for_the_limiter() -> None:
    assert limiter_uri("unix:///tmp/x.sock") == "redis+unix:///tmp/x.sock"
    assert limiter_uri("redis://h:1/0") == "redis://h:1/0"


def test_the_limiter_waits_for_a_connection(server: EmbeddedRedis) -> None:
    options = limiter_options(server.url)
    pool: Any = options["connection_pool"]
    limits = storage_from_string(limiter_uri(server.url), **options)
    taken = [pool.get_connection() for _ in range(LIMITER_CONNECTIONS)]
    with ThreadPoolExecutor(1) as threads:
        count = threads.submit(limits.incr, "name", 60)
        pool.release(taken.pop())
        assert count.result(timeout=30) == 1
    for connection in taken:
        pool.release(connection)
    pool.disconnect()
