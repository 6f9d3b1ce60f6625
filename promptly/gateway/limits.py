"""Request limits of /v1: requests per minute of an address and of a key, in sliding windows.

An account with a rate of its own has one window instead, for all its keys and addresses. Windows
are lists of the times of admitted requests, so the limits are exact. One Lua call checks a
request's windows, because a call costs as much as all of Flask. While Redis is away, this process
keeps the same windows in memory.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass

from promptly.errors import Limit, RateLimited
from promptly.runtime.recently_used import RecentlyUsed
from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable
from promptly.services.accounts.account_limits import AccountRate

WINDOW_MS = 60_000

# Checks one window after the other; the first full one decides, and then none counts the request.
# Returns {number of the full window or 0, remaining requests, milliseconds until a place is free}.
SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local window = tonumber(ARGV[1])
local remaining, reset = 0, 0
for i, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[i + 1])
  local oldest = tonumber(redis.call('LINDEX', key, 0))
  while oldest and oldest <= now - window do
    redis.call('LPOP', key)
    oldest = tonumber(redis.call('LINDEX', key, 0))
  end
  reset = oldest and oldest + window - now or 0
  -- A push says how many there are: asking first would cost a call more.
  remaining = limit - redis.call('RPUSH', key, now)
  if remaining < 0 then
    for pushed = 1, i do redis.call('RPOP', KEYS[pushed]) end
    return {i, 0, reset}
  end
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, window) end
if reset == 0 then reset = window end
return {0, remaining, reset}
"""


@dataclass(slots=True)
class Allowance:
    """State of the key's or account's limit (without a key: the address's), or of a full one."""

    limit: int
    remaining: int
    reset_ms: int

    def headers(self) -> dict[str, str]:
        """Return OpenAI's `x-ratelimit-*` headers."""
        return {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": duration(self.reset_ms),
        }


class LimitExceeded(RateLimited):
    """A window is full; `allowance` has the figures for the headers."""

    def __init__(self, message: str, allowance: Allowance, limit: Limit) -> None:
        seconds = max(1, -(-allowance.reset_ms // 1000))
        super().__init__(message, limit=limit, retry_after_seconds=seconds)
        self.allowance = allowance


def duration(milliseconds: int) -> str:
    """Format a duration as OpenAI does: `12ms`, `1s`, `6m0s`."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = -(-milliseconds // 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


class SlidingWindows:
    """Windows of a minute by name, in Redis or, while it is away, in this process."""

    def __init__(self, redis: HotPathRedis) -> None:
        self._redis = redis
        self._script = redis.script(SCRIPT)
        self._local = LocalWindows()

    def admit(self, names: list[str], limits: tuple[int, ...]) -> tuple[int, int, int]:
        """Count in all windows, or in none if one is full; return the same values as the script."""
        try:
            full, remaining, reset_ms = self._script(names, [WINDOW_MS, *limits])
        except RedisUnavailable:
            return self._local.admit(names, limits)
        return full, remaining, reset_ms

    def give_back(self, names: list[str]) -> None:
        """Take the newest count out of each window."""
        try:
            for name in names:
                self._redis.command("RPOP", name)
        except RedisUnavailable:
            self._local.give_back(names)


class RequestLimits:
    """The windows of an address and of a key, or of an account with a rate of its own."""

    def __init__(self, redis: HotPathRedis, per_address: int, per_key: int) -> None:
        self._windows = SlidingWindows(redis)
        self._limits = (per_address, per_key)

    def admit(
        self, address: str, key_hash: bytes | None, rate: AccountRate | None = None
    ) -> Allowance:
        """Count one request against its address, given by its pseudonym, and its key, if given.

        With a `rate` it counts against the account only: an office may share one address. Raises
        LimitExceeded if a window is full, and then counts the request in none.
        """
        if rate is not None:
            name = f"promptly:rate:account:{rate.user_id}"
            return self._count([name], (rate.requests_per_minute,), (Limit.ACCOUNT,))
        names = [f"promptly:rate:ip:{address}"]
        if key_hash is not None:
            names.append(f"promptly:rate:key:{key_hash[:16].hex()}")
        return self._count(names, self._limits[: len(names)], (Limit.ADDRESS, Limit.KEY))

    def _count(
        self, names: list[str], limits: tuple[int, ...], kinds: tuple[Limit, ...]
    ) -> Allowance:
        full, remaining, reset_ms = self._windows.admit(names, limits)
        if not full:
            return Allowance(limits[-1], remaining, reset_ms)
        limit, met = limits[full - 1], kinds[full - 1]
        raise LimitExceeded(
            f"Rate limit reached: {limit} requests per minute per {met}.",
            Allowance(limit, 0, reset_ms),
            met,
        )


class LocalWindows:
    """The script's rules over deques; forgets the least recently used windows."""

    def __init__(self) -> None:
        self._windows: RecentlyUsed[deque[int]] = RecentlyUsed()
        self._lock = threading.Lock()

    def admit(self, names: list[str], limits: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the same values as the script."""
        now = time.monotonic_ns() // 1_000_000
        remaining = reset = 0
        with self._lock:
            windows = []
            for number, (name, limit) in enumerate(zip(names, limits, strict=True), start=1):
                window = self._windows[name] = self._windows.get(name, deque())
                while window and window[0] <= now - WINDOW_MS:
                    window.popleft()
                reset = window[0] + WINDOW_MS - now if window else WINDOW_MS
                if len(window) >= limit:
                    return number, 0, reset
                remaining = limit - len(window) - 1
                windows.append(window)
            for window in windows:
                window.append(now)
        return 0, remaining, reset

    def give_back(self, names: list[str]) -> None:
        """Take the newest count out of each window."""
        with self._lock:
            for name in names:
                window = self._windows.get(name)
                if window:
                    window.pop()
