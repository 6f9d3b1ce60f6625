"""Proof of work at registration: challenges of ALTCHA's version 2, made and checked here.

A solution costs a phone about a second, its check one derivation, about two milliseconds. Solutions
work once. A challenge is not stored: it is signed, with a key derived from GATEWAY_SECRET_KEY; one
derived from GATEWAY_SECRET_KEY_PREVIOUS is accepted, too.

https://altcha.org/docs/v2/proof-of-work/
"""

import hashlib
import hmac
import time
from typing import Any

import altcha

from promptly.errors import InvalidRequest
from promptly.runtime.recently_used import RecentlyUsed
from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable
from promptly.settings import Settings

ALGORITHM = "PBKDF2/SHA-256"
# Iterations of one derivation; one in 256 of them has the prefix.
COST = 5_000
KEY_PREFIX = "00"
VALID_SECONDS = 20 * 60

MISSING = "This form needs a solved challenge in the field 'altcha'. Browsers solve it by a script."
WRONG = "The challenge is not solved correctly. Please try again."
EXPIRED = "The challenge has expired. Please try again."
SPENT = "This solution of the challenge has been used already. Please try again."


class Challenges:
    """Challenges of one installation; spent solutions are remembered in Redis and per process."""

    def __init__(self, settings: Settings, redis: HotPathRedis) -> None:
        # The current key first.
        self._keys = [
            hmac.digest(secret.encode(), b"registration challenge", hashlib.sha256)
            for secret in reversed(settings.signing_keys)
        ]
        self._redis = redis
        self._spent_until: RecentlyUsed[float] = RecentlyUsed()

    def create(self) -> dict[str, Any]:
        """Return a new challenge as a JSON object."""
        challenge = altcha.create_challenge(
            ALGORITHM,
            COST,
            key_prefix=KEY_PREFIX,
            expires_at=int(time.time()) + VALID_SECONDS,
            hmac_secret=self._keys[0],
        )
        return challenge.to_dict()

    def spend(self, encoded: str) -> None:
        """Check a solution, in base64, so that it works no second time.

        Raises InvalidRequest (param `altcha`) with a message that can be shown.
        """
        if not encoded:
            raise InvalidRequest(MISSING, param="altcha")
        try:
            solved = altcha.Payload.from_base64(encoded)
            result = self._verify(solved)
        # Also for 5000.0 in place of 5000: both are signed as the same JavaScript number.
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InvalidRequest(WRONG, param="altcha") from None
        if result.expired:
            raise InvalidRequest(EXPIRED, param="altcha")
        if not result.verified:
            raise InvalidRequest(WRONG, param="altcha")
        if not self._is_first_use(solved.challenge.parameters.nonce):
            raise InvalidRequest(SPENT, param="altcha")

    def _verify(self, solved: altcha.Payload) -> altcha.VerifySolutionResult:
        for key in self._keys:
            result = altcha.verify_solution(solved, key)
            # A wrong signature costs no derivation.
            if not result.invalid_signature:
                break
        return result

    def _is_first_use(self, nonce: str) -> bool:
        now = time.monotonic()
        if self._spent_until.get(nonce, 0.0) > now:
            return False
        # Redis may be away now, or when the solution comes again.
        self._spent_until[nonce] = now + VALID_SECONDS
        name = f"promptly:challenge:{nonce}"
        try:
            return self._redis.command("SET", name, 1, "NX", "EX", VALID_SECONDS) is not None
        except RedisUnavailable:
            return True
