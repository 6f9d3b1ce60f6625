"""Throttling of wrong admin keys, per client network (its pseudonym) and over all networks.

Open sessions and the command line are not affected. Wrong keys are counted in Redis and also in
each process: while Redis is unavailable, the process's own counts bound guessing.

Flask-Limiter cannot count them: it skips unknown URLs, which accept the key too, and counts a
failure only after the answer. The library below it takes a burst of guesses, which uses up its
connections to Redis, for an outage, and lets all of them pass (ADR 14).
"""

import threading
import time
from contextlib import suppress

from promptly.errors import RateLimited
from promptly.runtime.recently_used import RecentlyUsed
from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable

WINDOW_SECONDS = 300
WRONG_KEYS_PER_ADDRESS = 10
WRONG_KEYS_IN_ALL = 100

# Returns the milliseconds to wait, 0 for none; if ARGV[2] is 1, counts and returns 0.
SCRIPT = """
local wait = 0
for i, key in ipairs(KEYS) do
  if ARGV[2] == '1' then
    if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, ARGV[1]) end
  elseif tonumber(redis.call('GET', key) or '0') >= tonumber(ARGV[i + 2]) then
    wait = math.max(wait, redis.call('PTTL', key), 1)
  end
end
return wait
"""

_LIMITS = (WRONG_KEYS_PER_ADDRESS, WRONG_KEYS_IN_ALL)


class Throttle:
    """Counts of wrong keys in fixed windows; a window begins with its first wrong key."""

    def __init__(self, redis: HotPathRedis) -> None:
        self._script = redis.script(SCRIPT)
        self._local = LocalCounts()

    def check(self, network: str) -> None:
        """Raise RateLimited while this network, or every network, has to wait."""
        names = _names(network)
        wait_ms = self._local.wait_ms(names)
        with suppress(RedisUnavailable):
            wait_ms = max(wait_ms, self._script(names, [WINDOW_SECONDS * 1000, 0, *_LIMITS]))
        if wait_ms:
            raise RateLimited(
                "Too many incorrect keys. Please wait before trying again.",
                retry_after_seconds=max(1, -(-wait_ms // 1000)),
            )

    def count(self, network: str) -> None:
        names = _names(network)
        self._local.count(names)
        with suppress(RedisUnavailable):
            self._script(names, [WINDOW_SECONDS * 1000, 1, *_LIMITS])


class LocalCounts:
    """The script's rules, applied in this process."""

    def __init__(self) -> None:
        self._windows: RecentlyUsed[tuple[float, int]] = RecentlyUsed()
        self._lock = threading.Lock()

    def wait_ms(self, names: list[str]) -> int:
        """Return the milliseconds to wait, 0 for none."""
        now = time.monotonic()
        waits = [0]
        with self._lock:
            for name, limit in zip(names, _LIMITS, strict=True):
                ends_at, used = self._windows.get(name, (0.0, 0))
                if used >= limit and ends_at > now:
                    waits.append(int((ends_at - now) * 1000) + 1)
        return max(waits)

    def count(self, names: list[str]) -> None:
        """Count one wrong key under each name."""
        now = time.monotonic()
        with self._lock:
            for name in names:
                ends_at, used = self._windows.get(name, (0.0, 0))
                if ends_at <= now:
                    ends_at, used = now + WINDOW_SECONDS, 0
                self._windows[name] = (ends_at, used + 1)


def _names(network: str) -> list[str]:
    return [f"promptly:admin:wrong:{network}", "promptly:admin:wrong-keys"]
