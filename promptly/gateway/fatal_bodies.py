"""Refuses upstream bodies whose model servers died, so that one request cannot end them all.

A death is a connection that broke and a server that no longer answers. From the first death on a
body is suspected: of its copies one may be sent at a time, by all processes together. From the
second on it is refused. Bodies are known by a keyed hash only.

All of this is in Redis for all processes, and in memory as well, which is all there is while Redis
is away. Digests that Redis suspects or refuses come with each exchange of the scheduler
(`slots/script`), so a request whose servers never died costs neither a call nor a hash.
"""

import hmac
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from promptly.errors import RequestRejected, UpstreamUnavailable
from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable
from promptly.secret import Secret

# How often a body is sent again to another server after a connection broke.
MAX_RESENDS = 1
# So many deaths within REFUSED_SECONDS, and the body is refused for as long.
MAX_DEATHS = 2
REFUSED_SECONDS = 300
# A claim outlives a process that died with it by this long.
CLAIM_SECONDS = 60
# Counting prompts needs no slot: it asks Redis itself if nothing was learned for this long.
FRESH_SECONDS = 1.0

# Digest -> end of its refusal in seconds since the epoch; the script of `slots` reads it too. A
# suspected body is in it behind a prefix, with which processes of the release before know no body.
REFUSED_KEY = "promptly:fatal-bodies"
_SUSPECTED = "?"


@dataclass(slots=True)
class _Deaths:
    """Deaths of one body: their number, and when each server died last (since the epoch)."""

    forgotten_at: float
    count: int = 0
    servers: dict[str, float] = field(default_factory=dict)


class FatalBodies:
    """The bodies that this process has seen as fatal, or learned to be so."""

    def __init__(self, redis: HotPathRedis, pepper: Secret) -> None:
        self._redis = redis
        self._count = redis.script((Path(__file__).parent / "deaths.lua").read_text())
        self._pepper = pepper.reveal().encode()
        # Deaths that this process saw, by digest.
        self._deaths: dict[str, _Deaths] = {}
        # Suspected bodies that are out, by claimant, each with the (monotonic) end of its claim.
        self._claims: dict[object, tuple[str, float]] = {}
        self._learned: frozenset[str] = frozenset()
        self._learned_at = float("-inf")

    def digest(self, body: bytes) -> str:
        """Return the keyed hash under which a body is known; about 0.6 ms for 1 MB."""
        return hmac.digest(self._pepper, body, "sha256").hex()

    def add_death(self, digest: str, upstream: str, sent_at: float) -> bool:
        """Record that a server died of a body that was sent to it at `sent_at` (since the epoch).

        Returns whether the body is refused from now on.
        """
        self._forget_old()
        now = time.time()
        deaths = self._deaths.setdefault(digest, _Deaths(0.0))
        deaths.forgotten_at = time.monotonic() + REFUSED_SECONDS
        if deaths.servers.get(upstream, float("-inf")) < sent_at:
            deaths.servers[upstream] = now
            deaths.count += 1
        keys = [_key(digest), f"{_key(digest)}:servers", REFUSED_KEY]
        terms = [upstream, sent_at, now, digest, _SUSPECTED, REFUSED_SECONDS, MAX_DEATHS]
        with suppress(RedisUnavailable):
            deaths.count = max(deaths.count, int(self._count(keys, terms)))
        return deaths.count >= MAX_DEATHS

    @property
    def any_known(self) -> bool:
        """Whether there is any body that is refused, suspected, or to be forgiven."""
        return bool(self._deaths or self._learned)

    def check(self, digest: str) -> None:
        """Raise RequestRejected for a body that is refused, as far as this process knows."""
        seen = self._deaths.get(digest)
        is_seen = seen and seen.count >= MAX_DEATHS and seen.forgotten_at > time.monotonic()
        if is_seen or digest in self._learned:
            raise RequestRejected

    def admit(self, digest: str, claimant: object) -> None:
        """Raise as `check`, or UpstreamUnavailable while a copy of a suspected body is out.

        A copy that is admitted is out until `leave`; its claimant may send it again.
        """
        self.check(digest)
        if not self._is_suspected(digest):
            return
        now = time.monotonic()
        own, until = self._claims.get(claimant, ("", 0.0))
        if own == digest and until > now:
            return
        is_free: bool | None = None
        with suppress(RedisUnavailable):
            suspected_until = self._redis.command("ZSCORE", REFUSED_KEY, _SUSPECTED + digest)
            if suspected_until is None or float(suspected_until) <= time.time():
                # An answer to another process has forgiven it.
                return
            terms = (1, "NX", "EX", CLAIM_SECONDS)
            is_free = self._redis.command("SET", _claim_key(digest), *terms) is not None
        if is_free is None:
            # Only now: while Redis was asked in vain, another copy here may have claimed it.
            is_free = all(name != digest or end <= now for name, end in self._claims.values())
        if not is_free:
            raise UpstreamUnavailable(
                "A model server stopped while it processed exactly this request, and another copy"
                " of it is being tried. Please try again shortly."
            )
        self._claims[claimant] = digest, now + CLAIM_SECONDS

    def leave(self, claimant: object) -> None:
        """End what `admit` began; idempotent."""
        digest, until = self._claims.pop(claimant, ("", 0.0))
        if until > time.monotonic():
            with suppress(RedisUnavailable):
                self._redis.command("DEL", _claim_key(digest))

    @contextmanager
    def admitted_anew(self, body: bytes) -> Iterator[None]:
        """Admit a body while the context is open, where no exchange of the scheduler comes first.

        Raises as `admit` does.
        """
        if time.monotonic() - self._learned_at > FRESH_SECONDS:
            with suppress(RedisUnavailable):
                self.learn(
                    self._redis.command("ZRANGEBYSCORE", REFUSED_KEY, f"({time.time()}", "+inf")
                )
        claimant = object()
        if self.any_known:
            self.admit(self.digest(body), claimant)
        try:
            yield
        finally:
            self.leave(claimant)

    def learn(self, digests: Iterable[bytes | str]) -> None:
        """Take in all bodies that Redis suspects or refuses."""
        self._learned_at = time.monotonic()
        if self._deaths:
            self._forget_old()
        self._learned = frozenset(
            digest.decode() if isinstance(digest, bytes) else digest for digest in digests
        )

    def forgive(self, digest: str) -> None:
        """Forget deaths during a body that has now been answered: another one was fatal."""
        if self._is_suspected(digest):
            self._deaths.pop(digest, None)
            self._learned -= {_SUSPECTED + digest}
            with suppress(RedisUnavailable):
                self._redis.command("ZREM", REFUSED_KEY, _SUSPECTED + digest)
                keys = (_key(digest), f"{_key(digest)}:servers", _claim_key(digest))
                self._redis.command("DEL", *keys)

    def _is_suspected(self, digest: str) -> bool:
        return digest in self._deaths or _SUSPECTED + digest in self._learned

    def _forget_old(self) -> None:
        now = time.monotonic()
        self._deaths = {
            digest: seen for digest, seen in self._deaths.items() if seen.forgotten_at > now
        }


def _key(digest: str) -> str:
    """Return the Redis key that counts the deaths of a body."""
    return f"promptly:deaths:{digest}"


def _claim_key(digest: str) -> str:
    return f"{_key(digest)}:claim"
