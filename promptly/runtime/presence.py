"""Signs of life of the Celery worker and beat: keys in Redis that expire unless renewed.

Celery's signals renew them (celeryconfig.py): a worker one key for each queue that it consumes,
every two seconds; beat its own whenever it queues a task, every ten seconds. An age is computed
from the time that a key has left, so that the clocks of different machines do not matter.
"""

from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable

# Six of beat's intervals: a busy machine or a restart is not reported as an outage.
LATELY_SECONDS = 60

BEAT = "beat"

# Returns the age of each key in milliseconds, -1 if it has expired.
SCRIPT = """
local ages = {}
for i, key in ipairs(KEYS) do
  local left = redis.call('PTTL', key)
  ages[i] = left < 0 and -1 or ARGV[1] - left
end
return ages
"""


def worker(queue: str) -> str:
    """Return the name of the workers that consume a queue."""
    return f"worker:{queue}"


def report(redis_url: str, names: Iterable[str]) -> None:
    """Report that this process is alive; without effect while Redis is away."""
    with suppress(RedisUnavailable):
        for name in names:
            _redis(redis_url).command("SET", _key(name), 1, "EX", LATELY_SECONDS)


def ages(redis: HotPathRedis, names: list[str]) -> dict[str, int | None]:
    """Return the seconds since each process was seen, None if it was not seen lately.

    Raises RedisUnavailable.
    """
    found = redis.script(SCRIPT)([_key(name) for name in names], [LATELY_SECONDS * 1000])
    return {name: None if age < 0 else age // 1000 for name, age in zip(names, found, strict=True)}


def _key(name: str) -> str:
    return f"promptly:seen:{name}"


@cache
def _redis(url: str) -> HotPathRedis:
    # Not the application's: a worker's child processes must not share this connection.
    return HotPathRedis(url)
