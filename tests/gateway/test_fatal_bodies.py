"""Bodies that servers died of: refused by every process, and only those."""

import time
from typing import Any

import pytest

from promptly.errors import RequestRejected, UpstreamUnavailable
from promptly.gateway.fatal_bodies import REFUSED_SECONDS, FatalBodies
from promptly.runtime.redis_client import HotPathRedis
from promptly.secret import Secret

AWAY = "redis://127.0.0.1:1/0"
FATAL, OTHER = b'{"messages":["fatal"]}', b'{"messages":["other"]}'


def process(url: str) -> FatalBodies:
    return FatalBodies(HotPathRedis(url), Secret("pepper"))


def end_server(seen_by: FatalBodies, upstream: str, sent_at: float | None = None) -> bool:
    """Record a death of FATAL, which was sent just now; return whether it is refused."""
    if sent_at is None:
        sent_at = time.time()
    return seen_by.add_death(seen_by.digest(FATAL), upstream, sent_at)


def outcome(fatal: FatalBodies, body: bytes = FATAL, claimant: object = "a request") -> str:
    """Learn what Redis knows, and return what happens to a body."""
    fatal._learned_at = float("-inf")
    try:
        with fatal.admitted_anew(OTHER):
            fatal.admit(fatal.digest(body), claimant)
    except RequestRejected:
        return "refused"
    except UpstreamUnavailable:
        return "not now"
    return "sent"


def test_deaths_are_counted_over_all_processes(redis_url: str) -> None:
    first, second, third = (process(redis_url) for _ in range(3))
    assert not end_server(first, "a")
    assert outcome(second) == "sent"
    assert end_server(second, "b")
    # One that has seen none of it learns of it.
    assert [outcome(each) for each in (first, second, third)] == ["refused"] * 3
    assert outcome(third, OTHER) == "sent"


def test_copies_on_one_server_die_one_death(redis_url: str) -> None:
    first, second = process(redis_url), process(redis_url)
    sent_at = time.time()
    assert [end_server(each, "a", sent_at) for each in (first, first, second)] == [False] * 3
    # It was started again, and died of a copy that was sent to it since.
    assert end_server(second, "a")


def test_one_copy_of_a_suspected_body_at_a_time(redis_url: str) -> None:
    first, second = process(redis_url), process(redis_url)
    assert [outcome(first, claimant=number) for number in range(2)] == ["sent"] * 2
    end_server(first, "a")
    assert outcome(first, claimant="one") == "sent"
    assert [outcome(each, claimant="other") for each in (first, second)] == ["not now"] * 2
    # The same request may be sent to another server.
    assert outcome(first, claimant="one") == "sent"
    first.leave("one")
    assert outcome(second, claimant="other") == "sent"
    assert outcome(first, claimant="one") == "not now"
    second.forgive(second.digest(FATAL))
    assert [outcome(each, claimant="third") for each in (first, second)] == ["sent"] * 2


def test_a_count_is_a_copy_as_well(redis_url: str) -> None:
    first, second = process(redis_url), process(redis_url)
    end_server(first, "a")
    with first.admitted_anew(FATAL):
        assert outcome(second) == "not now"
    assert outcome(second) == "sent"


def test_without_redis_a_process_counts_for_itself() -> None:
    alone = process(AWAY)
    assert not alone.any_known
    sent_at = time.time()
    assert [end_server(alone, "a", sent_at) for _ in range(2)] == [False, False]
    assert [outcome(alone, claimant=number) for number in range(2)] == ["sent", "not now"]
    assert end_server(alone, "b", sent_at)
    assert outcome(alone, claimant=0) == "refused"
    assert outcome(process(AWAY)) == "sent"


def test_without_redis_copies_do_not_overtake_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = process(AWAY)
    end_server(alone, "a")
    ask = alone._redis.command
    seen: list[str] = []

    def ask_in_vain(*terms: Any) -> Any:
        # While the first waits for Redis, the second comes through.
        if not seen:
            seen.append("first")
            seen.append(outcome(alone, claimant="second"))
        return ask(*terms)

    monkeypatch.setattr(alone._redis, "command", ask_in_vain)
    with pytest.raises(UpstreamUnavailable):
        alone.admit(alone.digest(FATAL), "first")
    assert seen == ["first", "sent"]


def test_an_answer_forgives_the_deaths_before(redis_url: str) -> None:
    first, second = process(redis_url), process(redis_url)
    end_server(first, "a")
    first.forgive(first.digest(OTHER))
    assert outcome(second) == "sent"
    # Also an answer by a process that has only learned of the death.
    second.forgive(second.digest(FATAL))
    assert not second.any_known
    assert not end_server(second, "b")


def test_a_refusal_and_a_suspicion_end(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for deaths, before in ((1, "not now"), (2, "refused")):
        fatal = process(redis_url)
        for number in range(deaths):
            end_server(fatal, f"server {deaths} {number}")
        outcome(fatal, claimant="one")
        assert outcome(fatal) == before
        later, later_clock = time.time() + REFUSED_SECONDS, time.monotonic() + REFUSED_SECONDS
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda now=later: now)
            patch.setattr("time.monotonic", lambda now=later_clock: now)
            assert outcome(fatal) == "sent"
            assert not fatal.any_known
        fatal.forgive(fatal.digest(FATAL))
        HotPathRedis(redis_url).command("FLUSHDB")


def test_only_a_keyed_hash_is_kept(redis_url: str) -> None:
    redis = HotPathRedis(redis_url)
    fatal = process(redis_url)
    for upstream in ("a", "b"):
        end_server(fatal, upstream)
        outcome(fatal)
    keys = redis.command("KEYS", "promptly:*")
    assert len(keys) == 4
    stored = repr([*keys, *redis.command("ZRANGE", "promptly:fatal-bodies", 0, -1), fatal._deaths])
    assert "messages" not in stored
    assert all(0 < redis.command("TTL", key) <= REFUSED_SECONDS for key in keys)
    other_pepper = FatalBodies(redis, Secret("another"))
    assert outcome(other_pepper) == "sent"
