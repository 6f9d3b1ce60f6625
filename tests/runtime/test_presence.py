import redis

from promptly.runtime import presence
from promptly.runtime.redis_client import HotPathRedis

NAMES = [presence.worker("mail"), presence.BEAT]


def test_ages(redis_url: str) -> None:
    server = HotPathRedis(redis_url)
    assert presence.ages(server, NAMES) == {"worker:mail": None, "beat": None}
    presence.report(redis_url, NAMES)
    assert presence.ages(server, NAMES) == {"worker:mail": 0, "beat": 0}
    with redis.Redis.from_url(redis_url) as client:
        # As after 41.5 seconds.
        client.pexpire("promptly:seen:beat", (presence.LATELY_SECONDS * 1000) - 41_500)
        assert presence.ages(server, NAMES) == {"worker:mail": 0, "beat": 41}
        # Every report starts anew, and expires.
        presence.report(redis_url, [presence.BEAT])
        assert presence.ages(server, NAMES)["beat"] == 0
        assert 0 < client.ttl("promptly:seen:beat") <= presence.LATELY_SECONDS


def test_a_report_while_redis_is_away() -> None:
    presence.report("redis://127.0.0.1:1/0", NAMES)
