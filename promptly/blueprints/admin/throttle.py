"""Wrong admin keys are counted, by address and over all addresses; too many, and keys must wait.

Open sessions go on meanwhile, and so does the command line. The counts lie in Redis, and in each
process besides: while Redis is away guessing is bounded by the process's own counts.
"""

import threading
import time
from collections import OrderedDict
from contextlib import suppress

from promptly.errors import RateLimited
from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable

WINDOW_SECONDS = 300
WRONG_KEYS_PER_ADDRESS = 10
WRONG_KEYS_IN_ALL = 100

# Answers the milliseconds to wait, 0 for none; with ARGV[2] it counts and answers 0.
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
_LOCAL_WINDOWS = 10_000


class Throttle:
    """The counts of wrong keys; a window begins with its first."""

    def __init__(self, redis: HotPathRedis) -> None:
        self._script = redis.script(SCRIPT)
        self._local = LocalCounts()

    def check(self, network: str) -> None:
        """Raise RateLimited while this network, or everybody, has to wait."""
        names = _names(network)
        wait_ms = self._local.wait_ms(names)
        with suppress(RedisUnavailable):
            wait_ms = max(wait_ms, self._script(names, [WINDOW_SECONDS * 1000, 0, *_LIMITS]))
        if wait_ms:
            raise RateLimited(
                "Too many wrong keys. Please wait a little and try again.",
                retry_after_seconds=max(1, -(-wait_ms // 1000)),
            )

    def count(self, network: str) -> None:
        """Count one wrong key."""
        names = _names(network)
        self._local.count(names)
        with suppress(RedisUnavailable):
            self._script(names, [WINDOW_SECONDS * 1000, 1, *_LIMITS])


class LocalCounts:
    """The script's rules in this process; the oldest windows are forgotten."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_ms(self, names: list[str]) -> int:
        """The milliseconds to wait, 0 for none."""
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
            while len(self._windows) > _LOCAL_WINDOWS:
                self._windows.popitem(last=False)


def _names(network: str) -> list[str]:
    return [f"promptly:admin:wrong:{network}", "promptly:admin:wrong-keys"]
