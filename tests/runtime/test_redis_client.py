"""The lane to Redis: short waits, a breaker, and no answer given to the wrong question."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from promptly.runtime import redis_client
from promptly.runtime.redis_client import RedisAway, RedisLane, limiter_uri
from promptly.sandbox.redis_server import EmbeddedRedis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that a test may stop."""
    made = EmbeddedRedis(tmp_path / "redis")
    made.start()
    yield made
    made.stop()


class Clock:
    """The lane's clock, which moves only when a test says so."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now

    def pass_the_pause(self) -> None:
        """Let the time be over in which Redis is not asked."""
        self.now += redis_client.PAUSE_SECONDS + 0.001


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(redis_client, "time", made)
    return made


@pytest.fixture
def lane(server: EmbeddedRedis) -> RedisLane:
    return RedisLane(server.url)


def test_commands_and_scripts(lane: RedisLane) -> None:
    assert lane.command("SET", "a", "1") == b"OK"
    script = lane.script("return {KEYS[1], ARGV[1], ARGV[2]}")
    # The first call loads it, the second calls it by its hash.
    assert [script(["k"], [1, "x"]) for _ in range(2)] == [[b"k", b"1", b"x"]] * 2
    lane.command("SCRIPT", "FLUSH")
    assert script(["k"], [2, "y"]) == [b"k", b"2", b"y"]


def test_a_refusal_is_no_absence(lane: RedisLane) -> None:
    lane.command("SET", "a", "text")
    with pytest.raises(redis.ResponseError):
        lane.command("INCR", "a")
    assert lane.command("GET", "a") == b"text"


def test_many_threads_get_their_own_answers(lane: RedisLane) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda number: lane.command("ECHO", str(number)), range(500))
        assert [int(answer) for answer in answers] == list(range(500))


def test_nobody_there_is_said_at_once_and_once(caplog: pytest.LogCaptureFixture) -> None:
    lane = RedisLane("redis://127.0.0.1:1/0")
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for _ in range(200):
            with pytest.raises(RedisAway):
                lane.command("PING")
    assert time.monotonic() - started < 1.0
    assert [record.name for record in caplog.records] == ["promptly.runtime.redis_client"]


def test_a_restart_is_noticed_by_nobody(lane: RedisLane, server: EmbeddedRedis) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: lane.command("PING"), range(20)))
    server.restart()
    # All kept connections are stale now.
    assert lane.command("PING") == b"PONG"


def test_it_is_asked_again_after_a_pause(
    lane: RedisLane, server: EmbeddedRedis, clock: Clock
) -> None:
    assert lane.command("PING") == b"PONG"
    server.kill()
    with pytest.raises(RedisAway):
        lane.command("PING")
    server.start()
    with pytest.raises(RedisAway):
        lane.command("PING")
    clock.pass_the_pause()
    assert lane.command("PING") == b"PONG"


def test_a_frozen_redis_costs_half_a_second_once(
    lane: RedisLane, server: EmbeddedRedis, clock: Clock
) -> None:
    assert lane.command("ECHO", "before") == b"before"
    server.pause()
    started = time.monotonic()
    with pytest.raises(RedisAway):
        lane.command("ECHO", "lost")
    first = time.monotonic() - started
    assert 0.4 < first < 2.0
    with pytest.raises(RedisAway):
        lane.command("ECHO", "refused")
    server.resume()
    clock.pass_the_pause()
    # The answer that came too late is not taken for this one's.
    assert lane.command("ECHO", "after") == b"after"


def test_the_address_for_the_limiter() -> None:
    assert limiter_uri("unix:///tmp/x.sock") == "redis+unix:///tmp/x.sock"
    assert limiter_uri("redis://h:1/0") == "redis://h:1/0"
