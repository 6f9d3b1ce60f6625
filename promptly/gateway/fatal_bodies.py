"""Refuses upstream bodies whose model servers died, so that one request cannot end them all.

A death is a connection that broke and a server that no longer answers. Bodies are known by a keyed
hash only. Counts and refusals are in Redis for all processes, and in memory as well, which is all
there is while Redis is away. Digests that Redis refuses come with each exchange of the scheduler
(`slots.lua`), so a request whose servers never died costs neither a call nor a hash.
"""

import hmac
import time
from collections.abc import Iterable
from contextlib import suppress

from promptly.errors import RequestRejected
from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable
from promptly.secret import Secret

# How often a body is sent again to another server after a connection broke.
MAX_RESENDS = 1
# So many deaths within REFUSED_SECONDS, and the body is refused for as long.
MAX_DEATHS = 2
REFUSED_SECONDS = 300
# Counting prompts needs no slot: it asks Redis itself if nothing was learned for this long.
FRESH_SECONDS = 1.0

# Digest -> end of its refusal in seconds since the epoch; `slots.lua` reads it too.
REFUSED_KEY = "promptly:fatal-bodies"


class FatalBodies:
    """The bodies that this process has seen as fatal, or learned to be so."""

    def __init__(self, redis: HotPathRedis, pepper: Secret) -> None:
        self._redis = redis
        self._pepper = pepper.reveal().encode()
        # Deaths that this process saw, by digest, with the (monotonic) time of forgetting them.
        self._deaths: dict[str, tuple[int, float]] = {}
        self._learned: frozenset[str] = frozenset()
        self._learned_at = float("-inf")

    def digest(self, body: bytes) -> str:
        """Return the keyed hash under which a body is known; about 0.6 ms for 1 MB."""
        return hmac.digest(self._pepper, body, "sha256").hex()

    def add_death(self, digest: str) -> bool:
        """Record that a server died of a body; return whether it is refused from now on."""
        now = time.monotonic()
        self._deaths = {name: seen for name, seen in self._deaths.items() if seen[1] > now}
        count = self._deaths.get(digest, (0, 0.0))[0] + 1
        with suppress(RedisUnavailable):
            count = max(count, self._count_in_redis(digest))
            if count >= MAX_DEATHS:
                self._refuse_in_redis(digest)
        self._deaths[digest] = (count, now + REFUSED_SECONDS)
        return count >= MAX_DEATHS

    @property
    def any_known(self) -> bool:
        """Whether there is any body that `check` might refuse or `forgive` forget."""
        return bool(self._deaths or self._learned)

    def check(self, digest: str) -> None:
        """Raise RequestRejected for a body that is refused, as far as this process knows."""
        count, until = self._deaths.get(digest, (0, 0.0))
        if digest in self._learned or (count >= MAX_DEATHS and until > time.monotonic()):
            raise RequestRejected

    def check_anew(self, body: bytes) -> None:
        """As `check`, where no exchange of the slot scheduler comes first."""
        if time.monotonic() - self._learned_at > FRESH_SECONDS:
            with suppress(RedisUnavailable):
                self.learn(
                    self._redis.command("ZRANGEBYSCORE", REFUSED_KEY, f"({time.time()}", "+inf")
                )
        if self.any_known:
            self.check(self.digest(body))

    def learn(self, digests: Iterable[bytes | str]) -> None:
        """Take in all bodies that are refused by Redis."""
        self._learned_at = time.monotonic()
        self._learned = frozenset(
            digest.decode() if isinstance(digest, bytes) else digest for digest in digests
        )

    def forgive(self, digest: str) -> None:
        """Forget deaths during a body that has now been answered: another one was fatal."""
        if self._deaths.pop(digest, None) is not None:
            with suppress(RedisUnavailable):
                self._redis.command("DEL", _key(digest))

    def _count_in_redis(self, digest: str) -> int:
        count = int(self._redis.command("INCR", _key(digest)))
        self._redis.command("EXPIRE", _key(digest), REFUSED_SECONDS)
        return count

    def _refuse_in_redis(self, digest: str) -> None:
        now = time.time()
        self._redis.command("ZREMRANGEBYSCORE", REFUSED_KEY, "-inf", now)
        self._redis.command("ZADD", REFUSED_KEY, now + REFUSED_SECONDS, digest)
        self._redis.command("EXPIRE", REFUSED_KEY, REFUSED_SECONDS)


def _key(digest: str) -> str:
    """Return the Redis key that counts the deaths of a body."""
    return f"promptly:deaths:{digest}"
