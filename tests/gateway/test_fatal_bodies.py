"""Bodies that servers died of: refused by every process, and only those."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from promptly.errors import RequestRejected
from promptly.gateway.fatal_bodies import MAX_DEATHS, REFUSED_SECONDS, FatalBodies
from promptly.runtime.redis_client import HotPathRedis
from promptly.secret import Secret

T = TypeVar("T")

AWAY = "redis://127.0.0.1:1/0"
FATAL, OTHER = b'{"messages":["fatal"]}', b'{"messages":["other"]}'


def process(url: str) -> FatalBodies:
    return FatalBodies(HotPathRedis(url), Secret("pepper"))


def refuses(check: Callable[[T], None], body: T) -> bool:
    try:
        check(body)
    except RequestRejected:
        return True
    return False


def test_deaths_are_counted_over_all_processes(redis_url: str) -> None:
    first, second, third = (process(redis_url) for _ in range(3))
    assert not first.add_death(first.digest(FATAL))
    assert not refuses(second.check_anew, FATAL)
    assert second.add_death(second.digest(FATAL))
    # One that has seen none of it learns of it.
    assert refuses(third.check_anew, FATAL)
    assert refuses(second.check, second.digest(FATAL))
    assert not refuses(third.check_anew, OTHER)


def test_without_redis_a_process_counts_for_itself() -> None:
    alone = process(AWAY)
    assert not alone.any_known
    assert [alone.add_death(alone.digest(FATAL)) for _ in range(MAX_DEATHS)] == [False, True]
    assert refuses(alone.check_anew, FATAL)
    assert not refuses(process(AWAY).check_anew, FATAL)


def test_an_answer_forgives_the_deaths_before(redis_url: str) -> None:
    first, second = process(redis_url), process(redis_url)
    first.add_death(first.digest(FATAL))
    first.forgive(first.digest(OTHER))
    first.forgive(first.digest(FATAL))
    assert not first.any_known
    # Neither process nor Redis remembers the first death.
    assert not second.add_death(second.digest(FATAL))


def test_a_refusal_ends(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fatal = process(redis_url)
    for _ in range(MAX_DEATHS):
        fatal.add_death(fatal.digest(FATAL))
    fatal.learn([])
    assert refuses(fatal.check, fatal.digest(FATAL))
    clock = fatal._deaths[next(iter(fatal._deaths))][1]
    monkeypatch.setattr("time.monotonic", lambda: clock)
    assert not refuses(fatal.check, fatal.digest(FATAL))


def test_only_a_keyed_hash_is_kept(redis_url: str) -> None:
    redis = HotPathRedis(redis_url)
    fatal = FatalBodies(redis, Secret("pepper"))
    for _ in range(MAX_DEATHS):
        fatal.add_death(fatal.digest(FATAL))
    keys = redis.command("KEYS", "promptly:*")
    stored = repr([*keys, *redis.command("ZRANGE", "promptly:fatal-bodies", 0, -1), fatal._deaths])
    assert "messages" not in stored
    assert all(0 < redis.command("TTL", key) <= REFUSED_SECONDS for key in keys)
    other_pepper = FatalBodies(redis, Secret("another"))
    assert not refuses(other_pepper.check_anew, FATAL)
