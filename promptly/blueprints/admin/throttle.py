"""Throttling of wrong admin keys, per client network (its pseudonym) and over all networks.

Open sessions and the command line are not affected. Wrong keys are counted in Redis and also in
each process: while Redis is unavailable, the process's own counts bound guessing.

Flask-Limiter cannot count them: it skips unknown URLs, which accept the key too, and counts a
failure only after the answer (ADR 14).
"""

import threading
import time
from contextlib import suppress

from promptly.errors import Limit, RateLimited
from promptly.runtime.recently_used import RecentlyUsed
from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable

WINDOW_SECONDS = 300
WRONG_KEYS_PER_ADDRESS = 10
WRONG_KEYS_IN_ALL = 100

# Returns the milliseconds to wait, 0 for none; then counts a wrong key if ARGV[2] is 1. One step,
# so that no number of parallel guesses exceeds a limit.
SCRIPT = """
local wait = 0
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or '0') >= tonumber(ARGV[i + 2]) then
    wait = math.max(wait, redis.call('PTTL', key), 1)
  end
end
if wait == 0 and ARGV[2] == '1' then
  for _, key in ipairs(KEYS) do
    if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, ARGV[1]) end
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

    def admit(self, network: str, *, is_right: bool) -> None:
        """Count a wrong key; raise RateLimited while this network, or every one, has to wait."""
        names = _names(network)
        wait_ms = self._local.admit(names, is_right=is_right)
        counts = not is_right and not wait_ms
        with suppress(RedisUnavailable):
            given = [WINDOW_SECONDS * 1000, int(counts), *_LIMITS]
            wait_ms = max(wait_ms, self._script(names, given))
        if wait_ms:
            raise RateLimited(
                "Too many incorrect keys. Please wait before trying again.",
                limit=Limit.WRONG_KEYS,
                retry_after_seconds=max(1, -(-wait_ms // 1000)),
            )


class LocalCounts:
    """The script's rules, applied in this process."""

    def __init__(self) -> None:
        self._windows: RecentlyUsed[tuple[float, int]] = RecentlyUsed()
        self._lock = threading.Lock()

    def admit(self, names: list[str], *, is_right: bool) -> int:
        """Return the milliseconds to wait, 0 for none; then a wrong key has been counted."""
        now = time.monotonic()
        with self._lock:
            windows = [self._windows.get(name, (0.0, 0)) for name in names]
            waits = [
                int((ends_at - now) * 1000) + 1
                for (ends_at, used), limit in zip(windows, _LIMITS, strict=True)
                if used >= limit and ends_at > now
            ]
            if waits or is_right:
                return max(waits, default=0)
            for name, (ends_at, used) in zip(names, windows, strict=True):
                window = (ends_at, used + 1) if ends_at > now else (now + WINDOW_SECONDS, 1)
                self._windows[name] = window
        return 0


def _names(network: str) -> list[str]:
    return [f"promptly:admin:wrong:{network}", "promptly:admin:wrong-keys"]
